"""AMD Quark's ONNX quantiser: its configurations for int8 convolution networks and for transformers."""

from pathlib import Path
from typing import Any

from case_files import Case, Made, main
from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer
from quark.onnx.quantization.config.config import Config
from quark.onnx.quantization.config.custom_config import get_default_config


class Reader(CalibrationDataReader):
    def __init__(self, case: Case) -> None:
        self._rest = iter(case.calibration())

    def get_next(self) -> Any:
        return next(self._rest, None)


def static(case: Case, out: Path) -> Made:
    name = "INT8_TRANSFORMER_DEFAULT" if case.kind == "sequence" else "INT8_CNN_DEFAULT"
    file = out.with_suffix(".onnx")
    quantizer = ModelQuantizer(Config(global_quant_config=get_default_config(name)))
    quantizer.quantize_model(str(case.file("model.onnx")), str(file), Reader(case))
    return Made(file, "onnxruntime", "int8")


if __name__ == "__main__":
    main({"Quark int8": static})
