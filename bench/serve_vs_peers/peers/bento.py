"""BentoML, as its documentation shows: numpy arrays as JSON, one worker. bento.py MODEL PORT

Runs `bentoml serve` on this file; the service reads the model's path from BENCH_MODEL.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).absolute()
    os.environ["BENCH_MODEL"] = sys.argv[1]
    arguments = ["-m", "bentoml", "serve", f"{here.stem}:Service", "--working-dir", str(here.parent)]
    os.execv(sys.executable, [sys.executable, *arguments, "--host", "127.0.0.1", "--port", sys.argv[2]])

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Service:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["BENCH_MODEL"]
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    @bentoml.api
    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.name: x[None].astype(np.float32)})[0]
