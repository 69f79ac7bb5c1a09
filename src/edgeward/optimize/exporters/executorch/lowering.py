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
from edgeward.optimize.exporters.base import Exported
from edgeward.optimize.exporters.executorch.module import OnnxModule
from edgeward.optimize.one_sample import one_sample
from edgeward.records.model import TensorSpec

_NAMED = 4


def lowered(model: onnx.ModelProto) -> Exported:
    """Raises Unsupported, with the reason, for what torch.export or ExecuTorch cannot say."""
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
            data = bytes(edge.to_executorch().buffer)
    except EdgewardError:
        raise
    except Exception as error:  # torch and ExecuTorch raise whatever their passes raise
        raise Unsupported(f"ExecuTorch cannot take this model: {' '.join(str(error).split())[:200]}") from error
    return Exported(data, (_told(edge.exported_program().graph),))


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
    calls = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    parts = sum("executorch_call_delegate" in call for call in calls)
    left = Counter(
        call.removeprefix("aten.").partition(".")[0] for call in calls
        if "executorch_call_delegate" not in call and "getitem" not in call
    )  # fmt: skip
    named = ", ".join(f"{count} {name}" for name, count in left.most_common(_NAMED))
    more = (
        f" and {left.total() - sum(count for _, count in left.most_common(_NAMED))} more" if len(left) > _NAMED else ""
    )
    rest = f"; {named}{more} run in ExecuTorch's own kernels" if left else ", and all of it"
    return f"XNNPACK runs {parts} part{'s' if parts != 1 else ''} of the model{rest}"
