"""From the ONNX graph to an ExecuTorch program, with what XNNPACK did not take told."""

import warnings
from collections import Counter
from typing import Any

import msgspec
import onnx
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from onnx import helper

from edgeward.infer.silence import silence
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.optimize.exporters.executorch.module import OnnxModule
from edgeward.optimize.one_sample import one_sample
from edgeward.records.model import TensorSpec

_NAMED = 4
_DELEGATE = "executorch_call_delegate"


def lowered(model: onnx.ModelProto) -> tuple[bytes, str]:
    """The program, and what of it XNNPACK runs. Raises Unsupported, with the reason, for what torch.export or
    ExecuTorch cannot say."""
    fixed = one_sample(model, "ExecuTorch")
    module = OnnxModule(fixed).eval()
    examples = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in _inputs(fixed))
    try:
        with warnings.catch_warnings(), silence(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, examples)
            edge = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods={"edgeward": _signature(fixed, program)}
            )
            told = _told(edge.exported_program().graph)
            data = bytes(edge.to_executorch().buffer)
    except EdgewardError:
        raise
    except Exception as error:  # torch and ExecuTorch raise whatever their passes raise
        raise Unsupported(f"ExecuTorch cannot take this model: {' '.join(str(error).split())[:200]}") from error
    return data, told


def _signature(model: onnx.ModelProto, program: Any) -> str:
    """The inputs' and outputs' names, which a program has no place for; shapes as torch found them."""
    found = [node.meta["val"] for node in next(n for n in program.graph.nodes if n.op == "output").args[0]]
    outputs = [
        TensorSpec(name=node.name, dtype=str(value.dtype).removeprefix("torch."), shape=tuple(value.shape))
        for node, value in zip(model.graph.output, found, strict=True)
    ]
    return msgspec.json.encode({"inputs": _inputs(model), "outputs": outputs}).decode()


def _inputs(model: onnx.ModelProto) -> list[TensorSpec]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        TensorSpec(
            name=node.name, dtype=helper.tensor_dtype_to_np_dtype(node.type.tensor_type.elem_type).name,
            shape=tuple(dim.dim_value for dim in node.type.tensor_type.shape.dim),
        )
        for node in model.graph.input
        if node.name not in constants
    ]  # fmt: skip


def _told(graph: Any) -> str:
    """What XNNPACK took, and what runs in ExecuTorch's own, slower kernels."""
    calls = [_operator(node.target) for node in graph.nodes if node.op == "call_function"]
    parts = calls.count(_DELEGATE)
    left = Counter(call for call in calls if call not in (_DELEGATE, "getitem"))
    if not left:
        return f"XNNPACK runs all of the model, in {parts} parts"
    named = ", ".join(f"{count} {name}" for name, count in left.most_common(_NAMED))
    more = left.total() - sum(count for _, count in left.most_common(_NAMED))
    rest = f", {more} more" if more else ""
    return f"XNNPACK runs {parts} parts of the model; in ExecuTorch's own kernels run {named}{rest}"


def _operator(target: Any) -> str:
    """Such as "permute_copy"; a plain function's own name."""
    if hasattr(target, "_schema"):
        return str(target._schema.name).rpartition("::")[2].lstrip("_")
    return str(getattr(target, "__name__", target))
