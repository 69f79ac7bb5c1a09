"""A profile of another machine in the place of that machine."""

import pytest
from msgspec.structs import replace

from edgeward.kit.errors import Unsupported
from edgeward.measure import target_file
from edgeward.measure.machine import read_machine
from edgeward.measure.naming import target_name
from edgeward.measure.place import HERE
from edgeward.measure.profiled import place_for
from edgeward.records.target import Target


@pytest.fixture(scope="module")
def mine() -> Target:
    return target_file.target_of(read_machine(with_peaks=False), target_name())


def test_the_profile_of_this_very_machine_is_no_forecast(mine: Target) -> None:
    assert place_for(mine) is HERE


def test_a_profile_that_a_person_wrote_without_the_cpu_s_name_may_be_of_this_machine(mine: Target) -> None:
    assert place_for(replace(mine, cpu="")) is HERE


@pytest.mark.parametrize("change", [{"name": "pi5"}, {"arch": "riscv64"}, {"cpu_features": ("asimd",)}, {"cpu": "Z80"}])
def test_whatever_differs_makes_a_forecast(mine: Target, change: dict[str, object]) -> None:
    place = place_for(replace(mine, **change))
    assert place.timing == "forecast"
    assert place.key != HERE.key


def test_recipes_are_those_of_the_profile_and_the_setting_is_of_this_machine(mine: Target) -> None:
    place = place_for(replace(mine, name="pi5", arch="aarch64", cpu_features=("asimd", "asimddp"), cpu="4× Cortex-A76"))
    assert (place.facts.name, place.facts.arch, place.facts.cpu_features) == ("pi5", "aarch64", ("asimd", "asimddp"))
    assert (place.facts.hostname, place.facts.cpu) == (HERE.facts.hostname, HERE.facts.cpu)


def test_a_runtime_that_the_profile_does_not_name_is_not_there(mine: Target) -> None:
    place = place_for(replace(mine, name="pi5", runtimes={"onnxruntime": ">=1.20"}))
    assert place.version("onnxruntime") == HERE.version("onnxruntime")
    with pytest.raises(Unsupported, match="the profile of pi5 names no litert"):
        place.version("litert")
