"""The case folder of MLPerf Tiny's resnet8: python -m bench.optimize_vs_peers.make_resnet8 DATA CASE

DATA has mlperf-tiny/resnet8-float.onnx, .tflite and resnet8.h5, and CIFAR-10 as image folders cifar10-evaluation and
cifar10-train (one folder per class). Nothing is copied; the case links to it.
"""

import argparse
from pathlib import Path

_FILES = {
    "model.onnx": "mlperf-tiny/resnet8-float.onnx",
    "model.tflite": "mlperf-tiny/resnet8-float.tflite",
    "model.h5": "mlperf-tiny/resnet8.h5",
    "evaluation": "cifar10-evaluation",
    "calibration": "cifar10-train",
}
_CASE = 'name = "resnet8"\nmetric = "top1"\nmax_drop = 0.01\nkind = "vision"\n'
_CASE += "max_size_share = 0.30\nmax_seconds = 60\n"


def make(data: Path, case: Path) -> None:
    case.mkdir(parents=True)
    for name, source in _FILES.items():
        (case / name).symlink_to((data / source).resolve(strict=True))
    (case / "case.toml").write_text(_CASE, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.optimize_vs_peers.make_resnet8")
    parser.add_argument("data", type=Path)
    parser.add_argument("case", type=Path)
    asked = parser.parse_args()
    make(asked.data, asked.case)


if __name__ == "__main__":
    main()
