"""ONNX Runtime's static quantiser, as https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
advises: pre-process, then `quantize_static`; once with the API's default types, once with those it names for x86."""

from pathlib import Path
from typing import Any

from case_files import Case, Made, main
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, case: Case) -> None:
        self._rest = iter(case.calibration())

    def get_next(self) -> Any:
        return next(self._rest, None)


def prepared(case: Case, out: Path) -> Path:
    """The model after the pre-processing that the documentation advises; where that fails on it, the model itself."""
    file = out.with_suffix(".prepared.onnx")
    for skip_symbolic_shape in (False, True):
        try:
            quant_pre_process(str(case.file("model.onnx")), str(file), skip_symbolic_shape=skip_symbolic_shape)
        except Exception as error:  # noqa: BLE001 - the next best thing is tried, as an engineer would
            print(f"quant_pre_process failed: {error}")
        else:
            return file
    return case.file("model.onnx")


def quantized(case: Case, out: Path, precision: str, **options: Any) -> Made:
    file = out.with_suffix(".onnx")
    quantize_static(str(prepared(case, out)), str(file), Reader(case), **options)
    return Made(file, "onnxruntime", precision)


def default_types(case: Case, out: Path) -> Made:
    return quantized(case, out, "int8 (s8s8)")


def unsigned_activations(case: Case, out: Path) -> Made:
    options = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    return quantized(case, out, "int8 (u8s8)", per_channel=True, **options)


if __name__ == "__main__":
    main({
        "ORT static, default types (s8s8)": default_types,
        "ORT static u8s8, per channel, QDQ": unsigned_activations,
    })  # fmt: skip
