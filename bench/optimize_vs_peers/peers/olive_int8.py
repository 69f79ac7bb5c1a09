"""Olive's static int8 pass on ONNX, with its defaults and a data configuration of the case's samples."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from case_files import Case, Made, main
from olive.data.config import DataComponentConfig, DataConfig
from olive.data.registry import Registry
from olive.model import ONNXModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.passes.onnx.quantization import OnnxStaticQuantization


class Samples:
    def __init__(self, case: Case) -> None:
        self._samples = case.calibration()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Any:
        return {name: tensor[0] for name, tensor in self._samples[index].items()}, np.int64(0)


def static(case: Case, out: Path) -> Made:
    @Registry.register_dataset()
    def edge_case(**_: Any) -> Samples:
        return Samples(case)

    data = DataConfig(
        name="calibration", type="DataContainer", load_dataset_config=DataComponentConfig(type="edge_case")
    )
    made = create_pass_from_dict(OnnxStaticQuantization, {"data_config": data}, disable_search=True)
    result = made.run(ONNXModelHandler(str(case.file("model.onnx"))), str(out.with_suffix(".olive")))
    file = out.with_suffix(".onnx")
    shutil.copy(result.model_path, file)
    return Made(file, "onnxruntime", "int8")


if __name__ == "__main__":
    main({"Olive static int8": static})
