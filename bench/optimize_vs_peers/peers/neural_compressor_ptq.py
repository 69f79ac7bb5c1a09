"""Intel Neural Compressor: post-training static quantisation of ONNX with its defaults, and tuned for accuracy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from case_files import Case, Made, main
from neural_compressor import PostTrainingQuantConfig, quantization


class Samples:
    batch_size = 1

    def __init__(self, case: Case) -> None:
        self._samples = case.calibration()

    def __iter__(self) -> Iterator[Any]:
        for sample in self._samples:
            tensors = list(sample.values())
            yield (sample if len(tensors) > 1 else tensors[0]), 0


def static(case: Case, out: Path) -> Made:
    config = PostTrainingQuantConfig(approach="static", quant_format="QDQ", calibration_sampling_size=[512])
    model = quantization.fit(str(case.file("model.onnx")), config, calib_dataloader=Samples(case))
    if model is None:
        raise RuntimeError("it gave no model")
    file = out.with_suffix(".onnx")
    model.save(str(file))
    return Made(file, "onnxruntime", "int8")


if __name__ == "__main__":
    main({"Neural Compressor PTQ": static})
