"""Brings a model into the form that the other passes read: one opset, constants as initialisers, folded and fused."""

import onnx
from onnx import helper, shape_inference, version_converter

from edgeward.kit import log
from edgeward.optimize import classical
from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.records.candidate import Step

_WANTED_OPSET = 13
"""Per-channel QuantizeLinear came with opset 13; older models are converted up to 17."""


class Simplify:
    """Answers stay the same up to the rounding of folded constants. What a tool cannot do is left and noted."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        notes: list[str] = []
        _drop_listed_initialisers(copy)
        copy = _with_recent_opset(copy, notes)
        if replaced := classical.rewrite(copy):
            notes.append(f"{replaced} operators of ai.onnx.ml became ones that every runtime has")
        copy = _slimmed(copy, notes)
        _join_bias(copy)
        return Passed(copy, context.preprocess, tuple(notes))


def _drop_listed_initialisers(model: onnx.ModelProto) -> None:
    """Exporters before IR version 4 list initialisers among the inputs, which keeps them from being folded."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [node for node in model.graph.input if node.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)


def _with_recent_opset(model: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), _WANTED_OPSET)
    if opset >= _WANTED_OPSET:
        return model
    try:
        converted = version_converter.convert_version(model, 17)
    except Exception as error:  # noqa: BLE001 - the converter raises RuntimeError, and others for what it never met
        log.debug("opset-not-converted", error=error)
        notes.append(f"stays at opset {opset}: the converter has no rule for a part of it")
        return model
    notes.append(f"converted from opset {opset} to 17")
    return converted


def _slimmed(model: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    import onnxslim

    try:
        slim = onnxslim.slim(model)
        onnx.checker.check_model(slim)
    except Exception as error:  # noqa: BLE001 - a third-party rewriter on models nobody has seen: we go on without it
        log.debug("not-slimmed", error=error)
        notes.append(f"not simplified: onnxslim failed ({type(error).__name__})")
        return model
    before, after = len(model.graph.node), len(slim.graph.node)
    if before != after:
        notes.append(f"{before} operators became {after}")
    return slim


def _join_bias(model: onnx.ModelProto) -> None:
    """MatMul and the Add of a bias behind it become one Gemm, which quantisers and runtimes know as one operator."""
    graph = model.graph
    ranks = _ranks(model)
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        weight = constants.get(product.input[1], ())
        readers = users.get(product.output[0], [])
        if ranks.get(product.input[0]) != 2 or len(weight) != 2 or len(readers) != 1 or product.output[0] in outputs:
            continue
        add = readers[0]
        others = [name for name in add.input if name != product.output[0]]
        if add.op_type != "Add" or len(others) != 1 or constants.get(others[0]) not in ((weight[1],), (1, weight[1])):
            continue
        add.CopyFrom(
            helper.make_node("Gemm", [*product.input, others[0]], list(add.output), name=add.name or product.name)
        )
        graph.node.remove(product)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """How many dimensions each value has, where that can be told."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except shape_inference.InferenceError:
        graph = model.graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }


plugin: Pass = Simplify()
