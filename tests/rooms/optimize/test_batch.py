"""Models that were exported for a batch of several samples."""

import numpy as np
import onnx
import pytest

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize.batch import with_free_batch


def model_of(nodes: str, batch: str = "8") -> onnx.ModelProto:
    weights = onnx.numpy_helper.from_array(np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32), "w")
    shape = onnx.numpy_helper.from_array(np.int64([8, 12]), "flat")
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[{batch},4,3] x) => (float[{batch},3] y) {{ {nodes} }}'
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(tensor for tensor in (weights, shape) if tensor.name in used)
    return model


def test_a_model_for_a_batch_of_eight_takes_one_sample_with_the_same_answer():
    model = model_of("f = Reshape(x, flat) y = MatMul(f, w)")
    free, (note,) = with_free_batch(model)
    assert note.startswith("exported for batches of 8")
    samples = np.random.default_rng(0).normal(size=(8, 4, 3)).astype(np.float32)
    (whole,) = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1).run({"x": samples})
    (one,) = runtimes.load("onnxruntime").load(free.SerializeToString(), threads=1).run({"x": samples[3:4]})
    np.testing.assert_allclose(one[0], whole[3], rtol=1e-5)


def test_a_model_that_mixes_the_samples_of_its_batch_is_refused_in_a_sentence():
    model = model_of("m = ReduceMean<axes=[0]>(x) c = Sub(x, m) f = Reshape(c, flat) y = MatMul(f, w)")
    with pytest.raises(Unsupported, match="batches of 8 samples alone"):
        with_free_batch(model)


@pytest.mark.parametrize("batch", ["1", "N"])
def test_a_model_for_one_sample_or_any_number_stays_as_it_is(batch):
    model = model_of("f = Flatten(x) y = MatMul(f, w)", batch)
    assert with_free_batch(model) == (model, ())


@pytest.mark.parametrize("batch", ["5000", "1099511627776"])
def test_a_batch_that_is_too_large_to_be_tried_is_told(batch):
    model = model_of("f = Flatten(x) y = MatMul(f, w)", batch)
    with pytest.raises(Unsupported, match=f"batches of {batch} samples alone"):
        with_free_batch(model)
