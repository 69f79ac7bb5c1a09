"""ONNX Runtime's dynamic quantiser with its defaults."""

from pathlib import Path

from case_files import Case, Made, main
from onnxruntime.quantization import quantize_dynamic


def dynamic(case: Case, out: Path) -> Made:
    file = out.with_suffix(".onnx")
    quantize_dynamic(str(case.file("model.onnx")), str(file))
    return Made(file, "onnxruntime", "int8 (dynamic)")


if __name__ == "__main__":
    main({"ORT dynamic": dynamic})
