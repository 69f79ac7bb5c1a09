"""An inference leaves its thread on the CPUs where it is: moving it takes longer than a small model does."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

_PROGRAM = """
import os
import numpy as np
from edgeward.infer import runtimes

runtime = runtimes.load("openvino")
session = runtime.load(runtime.smoke_model(), threads=1)
feeds = {"x": np.ones(3, np.float32)}
session.run(feeds)
os.write(1, b"begin")
for _ in range(20):
    session.run(feeds)
os.write(1, b"end")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
@pytest.mark.skipif(Path("/sys/devices/cpu_core").exists(), reason="CPUs of unequal cores: there OpenVINO may move it")
def test_an_inference_does_not_move_its_thread(tmp_path):
    told = tmp_path / "calls"
    watched = ["strace", "-f", "-o", str(told), "-e", "trace=write,sched_setaffinity", sys.executable, "-c", _PROGRAM]
    subprocess.run(watched, check=True, capture_output=True, timeout=120)
    calls = told.read_text()
    between = calls[calls.index("begin") : calls.index('"end"')]
    assert "sched_setaffinity" not in between
