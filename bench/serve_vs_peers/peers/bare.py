"""What a good engineer writes by hand: an ASGI function on uvicorn that calls session.run. bare.py MODEL PORT"""

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
node = session.get_inputs()[0]
shape = [1, *node.shape[1:]]


async def app(_: dict[str, Any], receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    sample = np.frombuffer(body, np.float32).reshape(shape)
    answer = session.run(None, {node.name: sample})[0].tobytes()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


uvicorn.run(
    app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools", lifespan="off",
    log_level="critical", access_log=False,
)  # fmt: skip
