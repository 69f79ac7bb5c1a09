"""The two servers of test_serve_overhead.py, each a process of its own: `bare` is what a good engineer writes by hand
in twenty lines; `edgeward` is ours with checks, metrics and limits on. Both print their address when ready."""

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.serve import Limits, LocalServer, ServedModel, bind, create_app, serve, url_of
from edgeward.serve.models import without_batch
from edgeward.serve.protocol import signature


def bare(model: bytes) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    node = session.get_inputs()[0]
    shape = [1, *node.shape[1:]]

    async def app(_: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        sample = np.frombuffer(body, np.uint8).reshape(shape)
        answer = session.run(None, {node.name: sample})[0].tobytes()
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # so that a client may come before uvicorn is up
    print(url_of(listener), flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def edgeward(model: bytes, local: Path | None = None) -> None:
    session = load("onnxruntime").load(model, threads=1)
    inputs, outputs = ([without_batch(spec) for spec in specs] for specs in (session.inputs, session.outputs))
    served = ServedModel(
        Predictor(session), signature(inputs, outputs), name="bench", version="1", platform="onnxruntime_onnx", facts={}
    )
    served.warm_up({spec.name: np.zeros([int(dim) for dim in spec.shape], spec.dtype) for spec in inputs})
    listener = bind("127.0.0.1", 0)
    app = create_app([served], Limits())
    shared = None if local is None else LocalServer(local, app.catalog, Limits())
    serve(app, listener, lambda: print(url_of(listener), flush=True), [] if shared is None else [shared])


if __name__ == "__main__":
    {"bare": bare, "edgeward": edgeward}[sys.argv[1]](Path(sys.argv[2]).read_bytes(), *map(Path, sys.argv[3:]))
