"""Further runtimes are tried where they work, and nowhere else."""

from edgeward.kit.errors import Unsupported
from edgeward.measure.place import Here
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


def test_the_usual_ones_are_tried_even_where_they_are_missing_so_that_people_are_told():
    assert {"onnxruntime", "litert", "openvino"} <= runtimes_of(PlaceWith("onnxruntime"))
