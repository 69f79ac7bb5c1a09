"""What the service keeps in memory beside a process that only imports ONNX Runtime: resnet8, or the digits without it.

`python -m pytest bench/test_serve_memory.py -s` prints a table; nothing here asserts a size.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import sleep

import numpy as np

ROUNDS = 5
REQUESTS = 500
HERE = Path(__file__).resolve().parents[1]
RESNET = HERE.parent / "shared/data/mlperf-tiny/resnet8-float.onnx"
DIGITS = HERE / "examples" / "digits" / "digits.onnx"
BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
if len(sys.argv) > 1:
    import numpy
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    node = session.get_inputs()[0]
    session.run(None, {node.name: numpy.zeros([1, *node.shape[1:]], numpy.float32)})
print(flush=True)
input()
"""
EDGEWARD = (sys.executable, "-m", "edgeward")


def memory_mb(process: int) -> tuple[float, float]:
    """Resident, and what of it no file backs."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = [re.search(rf"^{name}:\s+(\d+) kB", text, re.M) for name in ("Rss", "Anonymous")]
    resident, anonymous = (int(one.group(1)) * 1024 / 1e6 for one in found if one is not None)
    return resident, anonymous


def bare(*words: str) -> tuple[float, float]:
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = memory_mb(process.pid)
    process.communicate("\n")
    return found


def serving(bundle: Path, environment: dict[str, str]) -> tuple[float, float]:
    """After some hundred requests, and one for the metrics."""
    command = [*EDGEWARD, "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    url = process.stderr.readline().split(" at ")[1].strip()
    with urllib.request.urlopen(url) as reply:
        (port,) = json.load(reply)["inputs"]
    values = np.zeros([1, *port["shape"][1:]], np.float32)
    tensor = {"name": port["name"], "shape": values.shape, "datatype": "FP32", "data": values.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    for _ in range(REQUESTS):
        urllib.request.urlopen(f"{url}/infer", body).read()
    sleep(2)  # it settles a second after it was ready
    urllib.request.urlopen(f"{url.partition('/v2/')[0]}/metrics").read()
    found = memory_mb(process.pid)
    process.terminate()
    process.communicate()
    return found


def test_the_service_beside_the_import(tmp_path: Path) -> None:
    model = RESNET if RESNET.is_file() else DIGITS
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "configuration")}
    for words in (("pack", str(model), "--name", "bench", "-o", "bundle"), ("sign", "bundle")):
        subprocess.run([*EDGEWARD, *words], cwd=tmp_path, env=environment, check=True, capture_output=True)
    taken: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        taken.setdefault("import onnxruntime", []).append(bare())
        taken.setdefault("import, load, run once", []).append(bare(str(model)))
        taken.setdefault("edgeward serve", []).append(serving(tmp_path / "bundle", environment))
    print(f"\n{model.stem}, n {ROUNDS} each, in turn     RSS MB (least–most)   anonymous MB")
    for name, values in taken.items():
        resident, anonymous = np.array(values).T
        spread = f"({resident.min():.1f}–{resident.max():.1f})"
        print(f"{name:<28}{np.median(resident):>8.1f} {spread}{np.median(anonymous):>12.1f}")
