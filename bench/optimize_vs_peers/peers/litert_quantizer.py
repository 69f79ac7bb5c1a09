"""LiteRT as it is, and with ai-edge-quantizer's ready recipes: static int8 and dynamic int8."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from case_files import Case, Made, main
from litert_source import float_tflite


def as_it_is(case: Case, out: Path) -> Made:
    return Made(float_tflite(case, out), "litert", "float")


def static(case: Case, out: Path) -> Made:
    source = float_tflite(case, out)
    worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    result = worker.quantize(worker.calibrate(calibration(case, source)))
    return saved(result, out, "int8")


def dynamic(case: Case, out: Path) -> Made:
    worker = quantizer.Quantizer(str(float_tflite(case, out)), recipe.dynamic_wi8_afp32())
    return saved(worker.quantize(), out, "int8 (dynamic)")


def calibration(case: Case, source: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """The samples by the names of the file's signature, whose inputs are in the order of the case's."""
    interpreter = Interpreter(str(source))
    [(key, signature)] = interpreter.get_signature_list().items()
    details = interpreter.get_signature_runner(key).get_input_details()
    return {
        key: [
            {
                name: tensor.astype(details[name]["dtype"])
                for name, tensor in zip(sorted_inputs(signature), sample.values(), strict=True)
            }
            for sample in case.calibration()
        ]
    }


def sorted_inputs(signature: dict[str, list[str]]) -> list[str]:
    """args_0, args_1 … as litert-torch names them come in no order of their own."""
    return sorted(signature["inputs"]) if len(signature["inputs"]) > 1 else signature["inputs"]


def saved(result: quantizer.QuantizationResult, out: Path, precision: str) -> Made:
    file = out.with_suffix(".tflite")
    result.export_model(str(file), overwrite=True)
    return Made(file, "litert", precision)


if __name__ == "__main__":
    main({
        "LiteRT float": as_it_is,
        "ai-edge-quantizer static int8": static,
        "ai-edge-quantizer dynamic": dynamic,
    })  # fmt: skip
