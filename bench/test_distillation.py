"""Students of MLPerf Tiny's resnet8, from wide to narrow: accuracy over speed, on CIFAR-10's held-out pictures.

EDGEWARD_BENCH_DATA names a folder with mlperf-tiny/resnet8-float.onnx, cifar10-train/ and cifar10-evaluation/;
EDGEWARD_BENCH_EPOCHS is 20 when not given. Prints the curve and asserts nothing about time. Needs the extra `train`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(os.environ.get("EDGEWARD_BENCH_DATA", "bench-data"))
MODEL = DATA / "mlperf-tiny" / "resnet8-float.onnx"
EPOCHS = os.environ.get("EDGEWARD_BENCH_EPOCHS", "20")
STUDENTS = (("ds-cnn", 2_600_000), ("ds-cnn", 1_600_000), ("ds-cnn", 800_000), ("shufflenet-v2", 1_000_000))


def edgeward(*arguments: object) -> dict[str, object]:
    command = [sys.executable, "-m", "edgeward", *map(str, arguments), "--json"]
    found: dict[str, object] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def top1(model: Path) -> float:
    found = edgeward("evaluate", model, "--data", DATA / "cifar10-evaluation")
    return float(found["value"])  # type: ignore[arg-type]


@pytest.mark.timeout(7200)
@pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is not here; EDGEWARD_BENCH_DATA names its folder")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="pip install 'edgeward[train]'")
def test_students_of_resnet8(tmp_path):
    print(f"\n{'':22} {'MACs':>10} {'bytes':>8} {'top1':>6}   speed, p50, one thread [95 %]")
    print(f"{'teacher':22} {'':>10} {MODEL.stat().st_size:8} {top1(MODEL):6.4f}   1.00")
    for index, (student, macs) in enumerate(STUDENTS):
        out = tmp_path / str(index)
        told = edgeward(
            "distill", MODEL, "--student", student, "--data", DATA / "cifar10-train", "--max-macs", macs,
            "--epochs", EPOCHS, "-o", out,
        )  # fmt: skip
        low, high = told["speedup_p50_ci"]  # type: ignore[misc]
        print(
            f"{student:22} {told['macs_after']:10} {told['size_bytes_after']:8} {top1(out / 'model.onnx'):6.4f}   "
            f"{told['speedup_p50']:.2f} [{low:.2f}, {high:.2f}]"
        )
