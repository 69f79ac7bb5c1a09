"""Bundles of a model that multiplies by a known number, signed by a key of the test's own."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from onnx import parser

from edgeward import bundle
from edgeward.infer import Predictor, runtimes
from edgeward.kit.files import new_folder
from edgeward.records.model import Model, TensorSpec


def make(folder: Path, key: bundle.SigningKey, *, version: str, gain: float, wrong_by: float = 0.0) -> Path:
    """`gains` of this version, whose answer to x is gain × x; its self-test fails where it is `wrong_by` something."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    gains (float[batch,3] x) => (float[batch,3] y) {{
      gain = Constant <value = float[1] {{{gain!r}}}> ()
      y = Mul (x, gain)
    }}"""
    raw = parser.parse_model(text).SerializeToString()
    session = runtimes.load("onnxruntime").load(raw, threads=1)
    inputs = {"x": np.array([[1, 2, 3]], np.float32)}
    expected = bundle.expected_outputs(Predictor(session), inputs)
    parts = bundle.Parts(
        name="gains",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(
            name="gains", format="onnx", files=(), inputs=session.inputs, outputs=session.outputs, parameter_count=0
        ),
        model_bytes=raw,
        runtime="onnxruntime",
        runtime_versions=">=1.20",
        kind="tensor",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(3,)),),
        self_test_inputs=inputs,
        self_test_expected={name: value + np.float32(wrong_by) for name, value in expected.items()},
    )
    with new_folder(folder) as work:
        bundle.assemble(work, parts)
    bundle.sign(folder, key)
    return folder


def replace(place: Path, new: Path) -> None:
    """`new` stands where `place` was, as a deployment leaves it."""
    old = place.with_name(place.name + ".old")
    place.rename(old)
    new.rename(place)
    shutil.rmtree(old)
