"""Scaling and linear models of ONNX's domain ai.onnx.ml, as scikit-learn's converter writes them, in operators that
every runtime has: ONNX Runtime alone knows that domain."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_DOMAIN = "ai.onnx.ml"
_LEAST_OPSET = 13
"""Sums take their axes as an input since then."""
_NEW_OPSET = 17


class _Written:
    """The nodes and constants that take the place of one node; their names begin with that of its output."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: NDArray[Any]) -> str:
        name = f"{self._prefix}/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{self._prefix}/{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output


def rewrite(model: onnx.ModelProto) -> int:
    """Changes `model` in place and says how many nodes were replaced. What has no counterpart is left as it is, and
    so are models of an old opset."""
    if any(entry.domain in ("", "ai.onnx") and entry.version < _LEAST_OPSET for entry in model.opset_import):
        return 0
    nodes = list[onnx.NodeProto]()
    floats, lists = set(_floats(model)), {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 1}
    replaced = 0
    for node in model.graph.node:
        written = _Written(node.output[0])
        rule = _RULES.get(node.op_type) if node.domain == _DOMAIN else None
        known = lists if node.op_type == "ArrayFeatureExtractor" else floats
        if rule is None or node.input[0] not in known or not rule(node, written):
            nodes.append(node)
            continue
        replaced += 1
        floats.update(node.output)
        nodes.extend(written.nodes)
        model.graph.initializer.extend(written.constants)
    if replaced:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        _state_opsets(model)
    return replaced


def _state_opsets(model: onnx.ModelProto) -> None:
    """A model all of ai.onnx.ml states no other, and quantisers want the one that is used."""
    stated = {entry.domain: entry.version for entry in model.opset_import}
    used = {node.domain for node in model.graph.node} | {""}
    stated[""] = stated.pop("ai.onnx", stated.get("", _NEW_OPSET))
    del model.opset_import[:]
    kept = [helper.make_opsetid(domain, version) for domain, version in stated.items() if domain in used]
    model.opset_import.extend(kept)


def _floats(model: onnx.ModelProto) -> Iterator[str]:
    for entry in model.graph.input:
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            yield entry.name


def _scaler(node: onnx.NodeProto, written: _Written) -> bool:
    """(x - offset) × scale."""
    given = _attributes(node)
    offset, scale = (np.asarray(given.get(*stated), np.float32) for stated in (("offset", [0]), ("scale", [1])))
    centred = written.node("Sub", [node.input[0], written.constant(offset)])
    written.node("Mul", [centred, written.constant(scale)], node.output[0])
    return True


def _normalizer(node: onnx.NodeProto, written: _Written) -> bool:
    """Each row over the sum of its sizes; of rows of zeros there are none behind probabilities."""
    if _attributes(node).get("norm", b"MAX") != b"L1":
        return False
    sizes = written.node("Abs", [node.input[0]])
    total = written.node("ReduceSum", [sizes, written.constant(np.array([1], np.int64))], keepdims=1)
    written.node("Div", [node.input[0], total], node.output[0])
    return True


def _linear_regressor(node: onnx.NodeProto, written: _Written) -> bool:
    given = _attributes(node)
    if given.get("post_transform", b"NONE") != b"NONE":
        return False
    _scores(node, written, given.get("targets", 1), node.output[0])
    return True


def _linear_classifier(node: onnx.NodeProto, written: _Written) -> bool:
    """The class of the largest score, and the scores as probabilities."""
    given = _attributes(node)
    labels, kind = given.get("classlabels_ints"), given.get("post_transform", b"NONE")
    if not labels or len(given.get("intercepts", ())) != len(labels) or kind not in _ENDINGS:
        return False
    scores = _scores(node, written, len(labels))
    place = written.node("ArgMax", [scores], axis=1, keepdims=0)
    written.node("Gather", [written.constant(np.asarray(labels, np.int64)), place], node.output[0], axis=0)
    name, attributes = _ENDINGS[kind]
    written.node(name, [scores], node.output[1], **attributes)
    return True


def _scores(node: onnx.NodeProto, written: _Written, count: int, output: str | None = None) -> str:
    given = _attributes(node)
    weights = np.asarray(given["coefficients"], np.float32).reshape(count, -1)
    offsets = np.asarray(given.get("intercepts", [0.0] * count), np.float32)
    inputs = [node.input[0], written.constant(weights.T), written.constant(offsets)]
    return written.node("Gemm", inputs, output)


def _feature(node: onnx.NodeProto, written: _Written) -> bool:
    """ArrayFeatureExtractor as skl2onnx uses it: the entries of a list at computed places, in one row."""
    found = written.node("Gather", [node.input[0], node.input[1]], axis=-1)
    written.node("Reshape", [found, written.constant(np.array([1, -1], np.int64))], node.output[0])
    return True


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


_ENDINGS: dict[bytes, tuple[str, dict[str, Any]]] = {
    b"NONE": ("Identity", {}),
    b"LOGISTIC": ("Sigmoid", {}),
    b"SOFTMAX": ("Softmax", {"axis": 1}),
}
_RULES: dict[str, Callable[[onnx.NodeProto, _Written], bool]] = {
    "ArrayFeatureExtractor": _feature,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}
