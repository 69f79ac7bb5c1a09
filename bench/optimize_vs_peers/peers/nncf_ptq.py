"""NNCF on OpenVINO: post-training quantisation, and the same with accuracy control, as OpenVINO's documentation shows;
and OpenVINO without quantisation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from case_files import Case, Made, main

from edgeward.measure.quality import metric_named


def saved(model: ov.Model, out: Path, precision: str) -> Made:
    file = out.with_suffix(".xml")
    ov.save_model(model, file)
    return Made(file, "openvino", precision)


def options(case: Case) -> dict[str, Any]:
    """What the documentation says to add for a transformer."""
    return {"model_type": nncf.ModelType.TRANSFORMER} if case.kind == "sequence" else {}


def float_model(case: Case, out: Path) -> Made:
    return saved(ov.convert_model(case.file("model.onnx")), out, "float")


def quantized(case: Case, out: Path) -> Made:
    model = ov.convert_model(case.file("model.onnx"))
    return saved(nncf.quantize(model, nncf.Dataset(case.calibration()), **options(case)), out, "int8")


def with_accuracy_control(case: Case, out: Path) -> Made:
    metric = metric_named(case.metric)
    samples, labels = case.evaluation()

    def validate(model: ov.CompiledModel, data: Iterable[Any]) -> float:
        answers = np.concatenate([model(sample)[0] for sample in data])
        score = metric.score(answers, labels[: len(answers)])
        return score if metric.higher_is_better else -score

    model = nncf.quantize_with_accuracy_control(
        ov.convert_model(case.file("model.onnx")),
        calibration_dataset=nncf.Dataset(case.calibration()),
        validation_dataset=nncf.Dataset(samples),
        validation_fn=validate,
        max_drop=case.max_drop,
        drop_type=nncf.DropType.ABSOLUTE if metric.higher_is_better else nncf.DropType.RELATIVE,
        **options(case),
    )
    return saved(model, out, "int8")


if __name__ == "__main__":
    main({
        "OpenVINO float": float_model,
        "NNCF PTQ": quantized,
        "NNCF accuracy control": with_accuracy_control,
    })  # fmt: skip
