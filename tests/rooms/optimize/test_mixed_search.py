"""Mixed precision on real handwritten digits, where int8 alone misses the gate."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.kit import codec
from edgeward.optimize.mixed import MOST_RECIPES, Mixing
from edgeward.optimize.prepare import Order, prepare
from edgeward.optimize.propose import Tried, recipes
from edgeward.optimize.trials import Chains
from edgeward.records.model import PreprocessFile
from edgeward.records.target import Budget

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
RECIPES = {recipe.name: recipe for recipe in recipes("x86_64", [])}  # as for any CPU: weights of seven bits
MAX_DROP = 0.01
FLOAT_MS, INT8_MS = 1.0, 0.4
"""Made up: what the search asks for must not depend on this machine's clock."""


def unequal(factor):
    """The digits' model, in which every fourth channel of the second layer's result is so many times as large, and
    weighs as much less in the third layer: it answers as before."""
    model = onnx.load(DIGITS / "digits.onnx")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("2.weight", "2.bias"):
            values[::4] *= factor
        if tensor.name == "4.weight":
            values[:, ::4] /= factor
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    onnx.save(unequal(1000), folder / "digits.onnx")
    steps = codec.from_toml(DIGITS / "preprocess.toml", PreprocessFile).preprocess
    return prepare(
        Order(
            model=folder / "digits.onnx", data=DIGITS / "evaluation.npz", calibration=DIGITS / "calibration.npz",
            output=folder / "out", metric=None, max_drop=MAX_DROP, budget=Budget(), threads=1, time_limit_s=None,
            seed=0, preprocess=steps, labels=(), shapes={}, overwrite=False, command="",
        )
    )  # fmt: skip


def right(task, passed):
    session = runtimes.load("onnxruntime").load(passed.model.SerializeToString(), threads=1)
    found = np.concatenate(
        [batch[0] for batch in Predictor(session, preprocess=passed.preprocess).outputs_of(task.evaluation)]
    )
    return float((found.argmax(axis=1) == task.evaluation.labels).mean())


def searched(task, names):
    """All that was tried: the recipes named, then what Mixing asks for."""
    chains = Chains(task, 0)
    reference = right(task, chains.passed(RECIPES["float32"].steps))
    mixing = Mixing(chains, task.calibration, MAX_DROP, lambda model, runtime: {})
    tried, seen = list[Tried](), set[str]()

    def attempt(recipe):
        seen.add(recipe.name)
        lost = reference - right(task, chains.passed(recipe.steps))
        alone_ms = FLOAT_MS if recipe.name == "float32" else INT8_MS
        tried.append(Tried(recipe, "kept" if lost <= MAX_DROP else "missed", alone_ms, lost))

    for name in names:
        attempt(RECIPES[name])
    while (recipe := mixing.next(tried, seen)) is not None:
        attempt(recipe)
    return tried, mixing


def test_where_int8_misses_the_gate_a_few_layers_in_float_keep_it(task):
    tried, mixing = searched(task, ["float32", "int8-minmax"])
    assert tried[1].quality_drop > 0.05, "int8 alone bears unequal channels badly"
    mixed = tried[2:]
    assert 1 <= len(mixed) <= MOST_RECIPES
    best = [one for one in mixed if one.outcome == "kept"][-1]
    kept_float = next(str(step.options["keep_float"]) for step in best.recipe.steps if "keep_float" in step.options)
    assert set(kept_float.split(",")) <= {"node_conv2d_1", "node_conv2d_2"}
    worst = min(mixing.noise, key=lambda layer: layer.output_sqnr_db)
    assert worst.name in ("node_conv2d_1", "node_conv2d_2")


def test_what_was_enough_in_one_runtime_is_tried_once_in_another(task):
    tried, _ = searched(task, ["float32", "int8-minmax", "litert-int8-minmax"])
    names = [one.recipe.name for one in tried]
    first = [name for name in names if name.startswith("int8-minmax-float")]
    second = [name for name in names if name.startswith("litert-int8-minmax-float")]
    assert min(len(first), len(second)) <= 1
    assert len(set(names)) == len(names)


def test_a_gate_that_int8_keeps_leaves_nothing_to_mix(task):
    plain = task._replace(model=unequal(1))
    tried, mixing = searched(plain, ["float32", "int8-minmax"])
    assert [one.outcome for one in tried] == ["kept", "kept"]
    assert mixing.noise == ()
