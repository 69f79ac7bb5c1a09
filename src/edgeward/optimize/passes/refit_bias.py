"""The last bias of a classifier fitted to the labels of the calibration samples, where that is proved to help.

A model meets other pictures, microphones or class shares than it was trained on; the cheapest part of that is one
number for each class (logistic regression with the scores as fixed offsets). It is fitted on one half of the samples
and judged on the other, both ways: without a gain beyond chance there, the pass steps aside.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.measure.statistics import paired_share_interval
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.records.candidate import Step

_SAMPLES = 512
_LEAST_SAMPLES = 100
_ROUNDS = 2000
_PULL = 1e-3
"""A little towards no change: classes without samples keep their bias."""


class RefitBias:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        labels = context.labels
        if labels is None or labels.dtype.kind not in "iu" or len(labels) < _LEAST_SAMPLES:
            raise DoesNotApply("there are no class labels for the calibration samples, or too few")
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        bias, is_probability = _last_bias(copy)
        labels = labels[:_SAMPLES]
        scores = _scores(model, context, is_probability=is_probability)
        if scores.ndim != 2 or scores.shape[1] != bias.dims[-1] or labels.max() >= scores.shape[1]:
            raise DoesNotApply("the last layer does not give one score for each class")
        before, after = _both_ways(scores, labels, context.seed)
        low, _ = paired_share_interval(after, before)
        if low <= 0:
            raise DoesNotApply("another bias would not help beyond chance")
        shift = fitted(scores, labels)
        values = numpy_helper.to_array(bias) + shift.reshape(tuple(bias.dims)).astype(np.float32)
        bias.CopyFrom(numpy_helper.from_array(values.astype(np.float32), bias.name))
        note = (
            f"the last bias was fitted to the labels of {len(labels)} calibration samples: on those it was not fitted "
            f"to, {after.mean():.4f} right instead of {before.mean():.4f}"
        )
        return Passed(copy, context.preprocess, (note,))


def fitted(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What to add to each class's score, so that the labels become likeliest. Convex; by plain gradient descent."""
    shift = np.zeros(scores.shape[1])
    wanted = np.eye(scores.shape[1])[labels]
    for _ in range(_ROUNDS):
        raised = scores + shift
        raised -= raised.max(axis=1, keepdims=True)
        likely = np.exp(raised)
        likely /= likely.sum(axis=1, keepdims=True)
        shift -= 0.5 * ((likely - wanted).mean(axis=0) + _PULL * shift)
    return shift


def _both_ways(
    scores: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples are right before, and after a fit to the half that they are not in."""
    order = np.random.default_rng(seed).permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    after = np.zeros(len(labels), bool)
    for learned, judged in (halves, halves[::-1]):
        shift = fitted(scores[learned], labels[learned])
        after[judged] = (scores[judged] + shift).argmax(axis=1) == labels[judged]
    return scores.argmax(axis=1) == labels, after


def _last_bias(model: onnx.ModelProto) -> tuple[onnx.TensorProto, bool]:
    """The constant that is added to the scores, and whether a Softmax follows. Raises DoesNotApply without one."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    node = makers.get(model.graph.output[0].name)
    is_probability = node is not None and node.op_type == "Softmax"
    if node is not None and is_probability:
        node = makers.get(node.input[0])
    if node is not None and node.op_type == "Gemm" and len(node.input) == 3 and node.input[2] in constants:
        tensor = constants[node.input[2]]
        users = [one for one in model.graph.node if node.input[2] in one.input]
        if len(users) == 1 and tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT:
            return tensor, is_probability
    raise DoesNotApply("the model does not end in a dense layer with a bias of its own")


def _scores(model: onnx.ModelProto, context: Context, *, is_probability: bool) -> NDArray[np.float64]:
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=context.preprocess)
    found = np.concatenate([group[0] for group in predictor.outputs_of(context.samples[:_SAMPLES])]).astype(np.float64)
    return np.log(np.maximum(found, 1e-12)) if is_probability else found


plugin: Pass = RefitBias()
