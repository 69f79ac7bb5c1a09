"""What starting a command costs: `edgeward run` to its first answer beside bare ONNX Runtime, `edgeward --help` beside
bare Python with click; new processes in turn.

`python -m pytest bench/test_cold_start.py -s` prints tables; nothing here asserts a time.
"""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

ROUNDS = 15
DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
BARE = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
session = onnxruntime.InferenceSession({model!r}, providers=["CPUExecutionProvider"])
print(session.run(None, {{session.get_inputs()[0].name: numpy.zeros((1, 1, 8, 8), numpy.float32)}}))
"""
EDGEWARD = (sys.executable, "-m", "edgeward")


def test_run_to_the_first_answer(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "configuration")}
    options = ("--preprocess", str(DIGITS / "preprocess.toml"), "-o", "bundle")
    for arguments in (("pack", str(DIGITS / "digits.onnx"), *options), ("sign", "bundle")):
        subprocess.run([*EDGEWARD, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True)
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 8, 8, 1), np.uint8))
    ours = [*EDGEWARD, "run", "bundle", "-i", "one.npz", "--json"]
    bare = [sys.executable, "-c", BARE.format(model=str(DIGITS / "digits.onnx"))]
    compare("edgeward run, one sample", ours, "import, load, run once", bare, tmp_path, environment)


def test_help(tmp_path: Path) -> None:
    bare = [sys.executable, "-c", "import click"]
    compare("edgeward --help", [*EDGEWARD, "--help"], "python, import click", bare, tmp_path, dict(os.environ))


def compare(
    name: str, ours: list[str], bare_name: str, bare: list[str], folder: Path, environment: dict[str, str]
) -> None:
    """Milliseconds of both, in turn, the first start of each left out."""
    taken: dict[str, list[float]] = {name: [], bare_name: []}
    for place in range(-1, ROUNDS):
        for label, command in ((name, ours), (bare_name, bare)):
            begin = perf_counter()
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            if place >= 0:
                taken[label].append((perf_counter() - begin) * 1000)
    print(f"\nn {ROUNDS} each, in turn       p50 ms    IQR ms")
    for label, times in taken.items():
        low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
        print(f"{label:<26}{middle:>8.1f}{high - low:>10.1f}")
    print(f"ratio {np.median(taken[name]) / np.median(taken[bare_name]):.2f}")
