"""A process that compiles: ONNX on standard input, the model for the processor that it is told on standard output."""

import os
import sys
from typing import Any

import msgspec
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from edgeward.infer.tvm_library import TRIPLES, Signature, library_of
from edgeward.records.model import TensorSpec


def compiled(model: onnx.ModelProto, arch: str) -> bytes:
    module = from_onnx(model)
    made, constants = module["main"].ret_ty, {tensor.name for tensor in model.graph.initializer}
    inputs = [node.name for node in model.graph.input if node.name not in constants]
    outputs = made.fields if isinstance(made, relax.TupleType) else [made]
    signature = Signature(
        tuple(_spec(name, value.ty) for name, value in zip(inputs, module["main"].params, strict=True)),
        tuple(_spec(node.name, info) for node, info in zip(model.graph.output, outputs, strict=True)),
    )
    target = tvm.target.Target({"kind": "llvm", "mtriple": TRIPLES[arch]})
    return library_of(tvm.compile(module, target), signature, arch)


def _spec(name: str, info: Any) -> TensorSpec:
    told = {"name": name, "dtype": str(info.dtype), "shape": [int(dim) for dim in info.shape]}
    return msgspec.convert(told, TensorSpec)


def main() -> None:
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TVM prints is no part of the model
    with output:
        output.write(compiled(onnx.load_model_from_string(sys.stdin.buffer.read()), sys.argv[1]))


if __name__ == "__main__":
    main()
