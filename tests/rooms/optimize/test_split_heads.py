"""Heads of boxes in pixels beside scores of 0..1 keep their scores in int8."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from detector_models import DETECT, STEPS, detector, scenes
from edgeward.infer import Predictor, runtimes
from edgeward.measure.dataset import open_dataset
from edgeward.measure.evaluate import answers
from edgeward.measure.quality import METRICS
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import TensorSpec

pytest.importorskip("onnxruntime")
SAMPLES = scenes(24, seed=1)[0]
CONTEXT = passes.Context(SAMPLES, "image", STEPS)


def after(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    for name in names:
        model = passes.load(name).apply(model, Step(use=name), CONTEXT).model
    return model


def map50(model: onnx.ModelProto, folder) -> float:
    samples, boxes, classes = scenes(30)
    np.savez(folder / "d.npz", image=np.stack([one["image"] for one in samples]), boxes=boxes, classes=classes)
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    specs = [TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:]) for spec in session.inputs]
    found = answers(Predictor(session, preprocess=STEPS, postprocess=(DETECT,)), open_dataset(folder / "d.npz", specs))
    return METRICS["map50"].score(found.outputs, found.targets)


def test_scores_survive_int8_where_the_head_is_split_and_not_where_it_is_not(tmp_path):
    given = map50(detector(), tmp_path)
    plain = map50(after(detector(), "quantize-static"), tmp_path)
    split = map50(after(detector(), "split-heads", "quantize-static"), tmp_path)
    assert given > 0.99
    assert plain < given - 0.1
    assert split > given - 0.01


def test_the_layers_are_int8_all_the_same_and_the_answer_is_joined_in_float():
    made = after(detector(), "split-heads", "quantize-static")
    makers = {name: node for node in made.graph.node for name in node.output}
    for node in made.graph.node:
        if node.op_type == "Conv":
            assert all(makers[name].op_type == "DequantizeLinear" for name in node.input[:2])
    assert makers["detections"].op_type == "Concat"
    assert {makers[name].op_type for name in makers["detections"].input} == {"Add", "Sigmoid"}


def test_splitting_alone_changes_no_answer():
    before, made = detector(), after(detector(), "split-heads")
    sessions = [runtimes.load("onnxruntime").load(one.SerializeToString(), threads=1) for one in (before, made)]
    one, other = (Predictor(session, preprocess=STEPS).answer(SAMPLES[0]).outputs for session in sessions)
    assert np.array_equal(one["detections"], other["detections"])


def test_a_note_says_what_stays_in_float_and_why():
    notes = passes.load("split-heads").apply(detector(), Step(use="split-heads"), CONTEXT).notes
    assert len(notes) == 1
    assert "stay in float" in notes[0]
    assert "up to 240" in notes[0]


ENDINGS = {
    "a classifier": "y = Relu (c)",
    "branches alike": "a = Relu (c)\n  y = Concat <axis = 1> (c, a)",
    "a join before the last layer": "a = Mul (c, hundred)\n  b = Concat <axis = 1> (c, a)\n  y = Conv (b, last)",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_there_is_nothing_to_do_for(ending):
    with pytest.raises(passes.DoesNotApply):
        after(small(ending), "split-heads")


def test_a_branch_of_zeros_or_of_nan_is_no_range():
    for joined in ("nothing", "no_number"):
        with pytest.raises(passes.DoesNotApply):
            after(small(f"a = Mul (c, {joined})\n  y = Concat <axis = 1> (c, a)"), "split-heads")


def test_an_activation_that_an_integer_kernel_does_stays_with_its_layer():
    made = after(
        small("a = Relu (c)\n  b = Sigmoid (c)\n  d = Mul (a, hundred)\n  y = Concat <axis = 1> (d, b)"), "split-heads"
    )
    kept = {node.op_type for node in made.graph.node if node.name.startswith("edgeward_float/")}
    assert kept == {"Sigmoid", "Mul", "Concat"}


def small(ending: str) -> onnx.ModelProto:
    """A convolution over three channels, and what comes after it."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>\n'
        f"g (float[batch,3,256,256] image) => (float[batch,n,h,w] y) {{\n  c = Conv (image, first)\n  {ending}\n}}"
    )
    generator = np.random.default_rng(0)
    values = {
        "first": generator.normal(size=(4, 3, 1, 1)), "last": generator.normal(size=(4, 8, 1, 1)),
        "hundred": np.array(100.0), "nothing": np.array(0.0), "no_number": np.array(np.nan),
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()
    )
    return model
