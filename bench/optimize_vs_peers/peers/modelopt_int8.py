"""NVIDIA ModelOpt's ONNX post-training quantisation to int8, calibrated on the CPU."""

from pathlib import Path

import numpy as np
from case_files import Case, Made, main
from modelopt.onnx.quantization import quantize


def static(case: Case, out: Path) -> Made:
    samples = case.calibration()
    stacked = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    file = out.with_suffix(".onnx")
    quantize(
        str(case.file("model.onnx")), quantize_mode="int8", calibration_data=stacked, output_path=str(file),
        calibration_eps=["cpu"], high_precision_dtype="fp32",
    )  # fmt: skip
    return Made(file, "onnxruntime", "int8")


if __name__ == "__main__":
    main({"ModelOpt int8": static})
