"""A model that is let go of in another thread leaves the process fit to take a signal."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

_PROGRAM = """
import os, signal, sys, threading
import numpy as np
from edgeward.infer import runtimes

runtime = runtimes.load(sys.argv[1])
held = [runtime.load(runtime.smoke_model(), threads=1)]
held[0].run({"x": np.ones(3, np.float32)})
helper = threading.Thread(target=held.clear)
helper.start()
helper.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1000))
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("runtime", ["openvino", "openvino-bf16"])
def test_an_interrupt_after_a_model_went_in_another_thread_is_only_an_interrupt(runtime):
    ended = subprocess.run([sys.executable, "-c", _PROGRAM, runtime], capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.returncode) == ("stopped\n", 0), ended.stderr
