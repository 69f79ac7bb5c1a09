"""Further runtimes are tried where they work, and nowhere else."""

from edgeward.kit.errors import Unsupported
from edgeward.measure.place import Here
from edgeward.optimize.propose import Tried, slow_plain_form
from edgeward.optimize.search import first_recipes


class PlaceWith(Here):
    """This machine with just these runtimes."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def version(self, runtime: str) -> str:
        if runtime not in self._names:
            raise Unsupported(f"{runtime} is not installed")
        return "1"


def runtimes_of(place: Here) -> set[str]:
    return {recipe.runtime for recipe in first_recipes(place)}


def test_a_further_runtime_that_works_at_the_place_is_tried():
    assert "executorch" in runtimes_of(PlaceWith("onnxruntime", "executorch"))


def test_one_that_does_not_work_there_is_left_out():
    assert not {"executorch", "tensorrt"} & runtimes_of(PlaceWith("onnxruntime"))


def test_int8_in_the_runtime_that_is_forecast_to_be_the_fastest_comes_first():
    place = PlaceWith("onnxruntime")
    plain, led = first_recipes(place), first_recipes(place, "openvino")
    assert led[0].name == "openvino-int8-minmax"
    assert [recipe for recipe in plain if recipe != led[0]] == list(led[1:])


def test_a_variant_is_left_out_where_its_plain_form_is_far_from_the_fastest():
    known = {recipe.name: recipe for recipe in first_recipes(PlaceWith("onnxruntime"))}
    fastest = Tried(known["openvino-int8-minmax"], "kept", 1.0, 0.0)
    variant = known["int8-minmax-tensor-blocked"]
    slow, near = (Tried(known["int8-minmax"], "kept", alone_ms, 0.0) for alone_ms in (1.5, 1.1))
    assert slow_plain_form(variant, [fastest, slow]) == "int8-minmax"
    assert slow_plain_form(variant, [fastest, near]) is None
    assert slow_plain_form(variant, [fastest]) is None
    assert slow_plain_form(known["int8-minmax"], [fastest, slow]) is None


def test_heads_are_joined_where_integer_kernels_can_give_floats_and_nowhere_else():
    for recipe in first_recipes(PlaceWith("onnxruntime")):
        assert recipe.runtime.startswith("openvino") == any(step.use == "join-heads" for step in recipe.steps)


def test_the_usual_ones_are_tried_even_where_they_are_missing_so_that_people_are_told():
    assert {"onnxruntime", "litert", "openvino"} <= runtimes_of(PlaceWith("onnxruntime"))
