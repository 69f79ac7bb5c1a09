"""Makes the models of this folder: one matrix product each, `rows` × 1024 by 1024 × 1024.

Run it with the package `onnx` installed: python src/edgeward/measure/peak_models/make_models.py
The weights are filled in by ConstantOfShape, so that a file has a few hundred bytes; ONNX Runtime turns them into
constants when it loads the model, and the product stays, because `x` is known only when the model runs.
"""

from pathlib import Path

import onnx
from onnx import parser

HEAD = '<ir_version: 8, opset_import: ["": 13]>'

FP32 = """
product (float[rows, 1024] x) => (float[rows, 1024] y) {
    shape = Constant <value = int64[2] {1024, 1024}> ()
    weights = ConstantOfShape <value = float[1] {0.5}> (shape)
    y = MatMul (x, weights)
}"""

INT8 = """
product (%(x)s[rows, 1024] x) => (%(x)s[rows, 1024] y) {
    shape = Constant <value = int64[2] {1024, 1024}> ()
    weights = ConstantOfShape <value = int8[1] {1}> (shape)
    one = Constant <value = float[1] {1.0}> ()
    wide = Constant <value = float[1] {1024.0}> ()
    x_zero = Constant <value = %(x)s[1] {%(zero)s}> ()
    w_zero = Constant <value = int8[1] {0}> ()
    x_scale = Squeeze (one)
    y_scale = Squeeze (wide)
    zero = Squeeze (x_zero)
    zero_w = Squeeze (w_zero)
    y = QLinearMatMul (x, x_scale, zero, weights, x_scale, zero_w, y_scale, zero)
}"""

MODELS = {"fp32": FP32, "u8s8": INT8 % {"x": "uint8", "zero": 0}, "s8s8": INT8 % {"x": "int8", "zero": 0}}


def main() -> None:
    for name, text in MODELS.items():
        model = parser.parse_model(HEAD + text)
        onnx.checker.check_model(model, full_check=True)
        (Path(__file__).parent / f"{name}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
