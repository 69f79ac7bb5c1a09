"""The next version of a model beside the deployed one: what of its file is kept."""

import numpy as np
import onnx
import pytest
from graph_models import conv_net, dense_net
from onnx import numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import exporters, passes
from edgeward.optimize.parent import Parent, delta_bytes, recipes_for
from edgeward.records.candidate import Recipe, Step

SAMPLES = [{"x": np.random.default_rng(i).normal(size=(3, 8, 8)).astype(np.float32)} for i in range(16)]
STATIC = Step(use="quantize-static", options={"method": "minmax", "activations": "uint8", "per_channel": True})
FORMATS = {"onnxruntime": "onnx", "litert": "litert"}


def context(parent=None):
    return passes.Context(SAMPLES, "tensor", (), parent=parent)


def plain(model, runtime):
    """The file that static int8 gives."""
    for step in (STATIC, Step(use="strip")):
        model = passes.load(step.use).apply(model, step, context()).model
    return exporters.load(runtimes.load(runtime).formats[0]).export(model).data


def deployed(model, runtime, data=None):
    recipe = Recipe(name="int8", steps=(STATIC, Step(use="strip")), runtime=runtime)
    data = plain(model, runtime) if data is None else data
    return Parent(f"sha256:{'0' * 64}", "net", "1.0.0", runtime, FORMATS[runtime], data, recipe)


def moved(model, share):
    """The same network with every weight moved a little."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    generator = np.random.default_rng(7)
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        noise = generator.normal(size=values.shape) * share * np.abs(values).max()
        tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
    return copy


def as_parent(model, parent, slack=2.0):
    recipe = recipes_for(parent, ())[0]
    *before, last = recipe.steps
    quantised = model
    for step in before:
        quantised = passes.load(step.use).apply(quantised, step, context()).model
    last = Step(use=last.use, options={**last.options, "slack": slack})
    return passes.load(last.use).write(quantised, last, context(parent)._replace(unquantised=model))


def answers(data, runtime):
    predictor = Predictor(runtimes.load(runtime).load(data, threads=1), preprocess=())
    return np.stack([predictor.answer(sample).outputs["y"] for sample in SAMPLES])


@pytest.fixture(params=FORMATS)
def runtime(request):
    return request.param


def test_the_same_model_again_is_the_same_file(runtime):
    parent = deployed(conv_net(), runtime)
    assert as_parent(conv_net(), parent).data == parent.model_bytes


def test_a_model_that_moved_a_little_is_a_smaller_update_and_answers_as_well(runtime):
    parent, model = deployed(conv_net(), runtime), moved(conv_net(), 0.004)
    kept, fresh = as_parent(model, parent).data, plain(model, runtime)
    wanted = answers(model.SerializeToString(), "onnxruntime")
    assert delta_bytes(parent.model_bytes, kept) < 0.7 * delta_bytes(parent.model_bytes, fresh)
    step = np.abs(wanted).max() / 127
    assert np.abs(answers(kept, runtime) - wanted).max() < np.abs(answers(fresh, runtime) - wanted).max() + 2 * step


def test_a_model_that_moved_far_gets_new_scales_where_the_old_ones_would_clip(runtime):
    parent, model = deployed(conv_net(), runtime), conv_net()
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= 1.8
            tensor.CopyFrom(numpy_helper.from_array(values, "w"))
    made = as_parent(model, parent)
    assert "1 scales of weights are new: the parent's no longer fit" in made.notes
    wanted = answers(model.SerializeToString(), "onnxruntime")
    assert np.abs(answers(made.data, runtime) - wanted).max() < 0.1 * np.abs(wanted).max()


def test_another_network_is_named_by_its_first_other_operator(runtime):
    parent = deployed(conv_net(kernel=5, pads=(2, 2, 2, 2)), runtime)
    with pytest.raises(Unsupported, match="the parent is built differently: operator"):
        as_parent(conv_net(), parent)


def test_of_a_float_parent_nothing_is_kept():
    parent = deployed(dense_net(), "onnxruntime", dense_net().SerializeToString())
    assert "is not quantised" in parent.fault
    assert recipes_for(parent, ()) == ()


def test_a_parent_whose_bundle_says_nothing_is_tried_in_every_known_way_for_its_runtime():
    parent = deployed(conv_net(), "litert")._replace(recipe=None)
    known = [Recipe(name=f"{runtime}-int8", steps=(STATIC,), runtime=runtime) for runtime in ("litert", "openvino")]
    assert {recipe.runtime for recipe in recipes_for(parent, known)} == {"litert"}


def test_a_parent_that_cannot_be_read_has_nothing_to_keep():
    assert "no ONNX model" in deployed(conv_net(), "onnxruntime", b"no model").fault
    assert "no LiteRT model" in deployed(conv_net(), "litert", b"no model").fault
