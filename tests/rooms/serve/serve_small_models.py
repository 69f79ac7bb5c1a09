"""Small models to serve. As a program with two numbers (most waiting, most request bytes) and a path for the Unix
socket, and perhaps a port for gRPC, it serves them, and prints its URL when it is ready."""

import os
import sys
from pathlib import Path

import numpy as np
from onnx import parser

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.model import Classify, Postprocess, TensorSpec
from edgeward.serve import Companion, Limits, LocalServer, ServedModel, bind, create_app, serve, url_of
from edgeward.serve.models import without_batch
from edgeward.serve.protocol import signature

LABELS = ("zero", "one", "two")

# `rounds` says how long it takes: 64 x 64 products, one after the other.
SLOW = """<ir_version: 8, opset_import: ["": 17]>
slow (int64[batch,1] rounds) => (float[batch,1] y) {
  most = ReduceMax <keepdims = 0> (rounds)
  side = Constant <value = int64[2] {64, 64}> ()
  start = ConstantOfShape <value = float[1] {1.0}> (side)
  go = Constant <value = bool {1}> ()
  end = Loop (most, go, start) <body = body (int64 i, bool more, float[64,64] a) => (bool on, float[64,64] b) {
    on = Identity (more)
    product = MatMul (a, a)
    b = Softmax (product)
  }>
  total = ReduceMean <keepdims = 0> (end)
  zeros = Cast <to = 1> (rounds)
  nothing = Sub (zeros, zeros)
  y = Add (nothing, total)
}"""

# What JSON cannot say, text, and a fault that depends on the input.
ODD = """<ir_version: 8, opset_import: ["": 17]>
odd (float[batch,2] x) => (float[batch,2] inverse, float16[batch,2] half, string[batch,2] text, float[batch,2] picked) {
  inverse = Reciprocal (x)
  half = Cast <to = 10> (x)
  text = Cast <to = 8> (x)
  table = Constant <value = float[3] {10.0, 20.0, 30.0}> ()
  index = Cast <to = 7> (x)
  picked = Gather (table, index)
}"""

FIXED = """<ir_version: 8, opset_import: ["": 17]>
fixed (float[4,2] x) => (float[4,2] y) { y = Add (x, x) }"""


def echo(shape: tuple[int | str, ...], dtype: str = "float32", gain: float = 2.0) -> bytes:
    spec = TensorSpec(name="x", dtype=dtype, shape=("batch", *shape))  # type: ignore[arg-type]
    return codec.to_json(EchoModel(inputs=(spec,), gain=gain))


def onnx_model(text: str) -> bytes:
    return parser.parse_model(text).SerializeToString()  # type: ignore[no-any-return]


def served(name: str, runtime: str, model: bytes, postprocess: Postprocess = ()) -> ServedModel:
    session = load(runtime).load(model, threads=1)
    softmax = any(step.softmax for step in postprocess)
    return ServedModel(
        Predictor(session, postprocess=postprocess, labels=LABELS),
        signature(
            [without_batch(spec) for spec in session.inputs],
            [without_batch(spec) for spec in session.outputs],
            LABELS,
            softmax=softmax,
        ),
        name=name,
        version="1.0.0",
        platform=f"{runtime}_test",
        facts={"runtime": runtime},
    )


def models() -> list[ServedModel]:
    made = [
        served("echo", "echo", echo((3,)), (Classify(softmax=True),)),
        served("bytes", "echo", echo((8, 8, 3), "uint8", 1.0)),
        served("long", "echo", echo(("n",), "int64", 1.0)),
        served("flags", "echo", echo((2,), "bool", 1.0)),
        served("slow", "onnxruntime", onnx_model(SLOW)),
        served("odd", "onnxruntime", onnx_model(ODD)),
        served("fixed", "onnxruntime", onnx_model(FIXED)),
    ]
    made[0].warm_up({"x": np.zeros(3, np.float32)})
    return made


def main() -> None:
    waiting, request_bytes = (int(word) for word in sys.argv[1:3])
    listener = bind("127.0.0.1", 0)
    limits = Limits(waiting=waiting, request_bytes=request_bytes)
    app = create_app(models(), limits)
    local = LocalServer(Path(sys.argv[3]), app.catalog, limits)
    companions: list[Companion] = [local]
    if len(sys.argv) > 4:
        from edgeward.serve.rpc import GrpcServer

        companions.append(GrpcServer(app, "127.0.0.1", int(sys.argv[4])))
    if not serve(app, listener, lambda: print(url_of(listener), flush=True), companions):
        os._exit(1)


if __name__ == "__main__":
    main()
