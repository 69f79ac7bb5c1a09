"""Energy as a limit of a search, by a powercap tree that another process advances."""

import subprocess
import sys
from pathlib import Path

import models_for_tests as made
import numpy as np
import onnx
import pytest

from edgeward.kit import codec
from edgeward.kit.clock import SystemClock
from edgeward.kit.errors import GateMissed
from edgeward.measure.jobs import Contender
from edgeward.measure.limits import parse_budget
from edgeward.measure.place import Here
from edgeward.optimize.energy_axis import measured
from edgeward.optimize.prepare import Order
from edgeward.optimize.run import optimize
from edgeward.optimize.trials import Candidate, failed
from edgeward.records.candidate import Recipe, Report

pytestmark = pytest.mark.slow
SIZE = 262_143_328_850
ADVANCE = """
import os, sys, time
folder, size, start = sys.argv[1], int(sys.argv[2]), time.perf_counter()
while True:
    value = int(size - 20e6 + (time.perf_counter() - start) * 12e6) % size  # starts again after 1.7 s
    with open(folder + "/new", "w") as file:
        file.write(f"{value}\\n")
    os.replace(folder + "/new", folder + "/energy_uj")
    time.sleep(0.002)
"""


class Quiet:
    def stage(self, text: str, done: float) -> None: ...

    def say(self, text: str) -> None: ...


@pytest.fixture
def place(tmp_path):
    """This machine, with a package that draws 12 W, whatever runs."""
    folder = tmp_path / "root/sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    for name, text in {"name": "package-0", "energy_uj": "0", "max_energy_range_uj": str(SIZE)}.items():
        (folder / name).write_text(f"{text}\n")
    process = subprocess.Popen([sys.executable, "-c", ADVANCE, str(folder), str(SIZE)])
    yield Here(tmp_path / "root")
    process.kill()
    process.wait()


def order(folder: Path, budget: str) -> Order:
    onnx.save(made.classifier(), folder / "model.onnx")
    return Order(
        model=folder / "model.onnx", data=made.write_samples(folder / "data.npz"), calibration=None,
        output=folder / "out", metric=None, max_drop=1.0, budget=parse_budget(budget), threads=1, time_limit_s=2.0,
        seed=0, preprocess=None, labels=(), shapes={}, overwrite=False, command="",
    )  # fmt: skip


def test_every_candidate_is_metered_and_the_report_tells_by_what(tmp_path, place):
    report = optimize(order(tmp_path, "energy<1000mJ"), SystemClock(), Quiet(), place)
    measured = [trial for trial in report.trials if trial.failure is None]
    assert measured
    for trial in measured:
        assert trial.energy is not None
        assert trial.energy.power_mw == pytest.approx(12_000, rel=0.15)
        assert trial.energy.gross_mj * trial.energy.inferences == pytest.approx(12_000 * trial.energy.seconds, rel=0.15)
    page = (tmp_path / "out/report.html").read_text()
    assert "energy is of the processor package (RAPL package-0)" in page
    assert "without idle" in page


def test_a_limit_that_nothing_keeps_is_a_missed_gate_with_the_figure(tmp_path, place):
    with pytest.raises(GateMissed, match="energy"):
        optimize(order(tmp_path, "energy<0.000001mJ"), SystemClock(), Quiet(), place)
    report = codec.from_json((tmp_path / "out/report.json").read_bytes(), Report, "the report")
    missed = [one for trial in report.trials for one in trial.violations]
    assert {one.limit for one in missed} == {"energy_mj"}
    assert all(one.measured > one.allowed for one in missed)


def test_a_candidate_whose_energy_cannot_be_told_is_one_failed_trial(tmp_path, place):
    asked = order(tmp_path, "energy<1000mJ")
    shape = (1, *(dim.dim_value for dim in onnx.load(asked.model).graph.input[0].type.tensor_type.shape.dim[1:]))
    np.savez(tmp_path / "feeds.npz", image=np.ones(shape, np.float32))
    given, lost = (
        Candidate(
            failed(Recipe(name=name, steps=()), ""), b"", (),
            Contender(str(tmp_path / file), "onnxruntime", 1, str(tmp_path / "feeds.npz")), np.zeros(1), 0.1,
        )
        for name, file in (("as-given", "model.onnx"), ("lost", "nowhere.onnx"))
    )  # fmt: skip
    found = measured([given, lost], [np.ones(1), np.ones(1)], place, asked.budget)
    assert [one.trial.recipe for one in found.candidates] == ["as-given"]
    assert len(found.times) == 1
    assert [trial.recipe for trial in found.failures] == ["lost"]
    assert found.failures[0].failure.startswith("its energy cannot be told")
