"""LitServe, as its documentation shows: JSON in and out, one worker. lit.py MODEL PORT"""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.array(request["input"], np.float32)[None]

    def predict(self, x: Any) -> Any:
        return self.session.run(None, {self.name: x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"output": output[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
