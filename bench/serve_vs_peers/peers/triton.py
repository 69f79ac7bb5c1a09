"""Triton by PyTriton, as its quick start shows: a Python function behind the dynamic batcher. triton.py MODEL PORT"""

import socket
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
node, answer = session.get_inputs()[0], session.get_outputs()[0]


@batch
def infer(**tensors: Any) -> list[Any]:
    return session.run(None, tensors)


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    metrics_port = probe.getsockname()[1]
config = TritonConfig(
    http_address="127.0.0.1", http_port=int(sys.argv[2]), allow_grpc=False, metrics_port=metrics_port, log_verbose=0
)
with Triton(config=config) as server:
    server.bind(
        model_name="bench",
        infer_func=infer,
        inputs=[Tensor(name=node.name, dtype=np.float32, shape=tuple(node.shape[1:]))],
        outputs=[Tensor(name=answer.name, dtype=np.float32, shape=tuple(answer.shape[1:]))],
        config=ModelConfig(max_batch_size=16),
    )
    server.serve()
