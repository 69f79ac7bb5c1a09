"""Signed bundles for the fragile runtime, and the service over them as a process of its own."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgeward import bundle
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.files import new_folder
from edgeward.records.model import Model, TensorSpec

FRAGILE = Path(__file__).with_name("fragile")
CRASH, HANG, SLOW = 666.0, 777.0, 5.0
"""First numbers of a sample that the runtime reads as orders."""


def make(folder: Path, key: bundle.SigningKey, *, version: str = "1.0.0", first: float = 5.0) -> Path:
    """A bundle named "fragile" that doubles two numbers; `first` is the first one of its self-test."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 2))
    told = TensorSpec(name="x_out", dtype="float32", shape=(1, 2))
    sample = np.float32([[first, 1]])
    parts = bundle.Parts(
        name="fragile", version=version, created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(name="fragile", format="fragile", files=(), inputs=(spec,), outputs=(told,), parameter_count=0),
        model_bytes=codec.to_json(EchoModel(inputs=(spec,), gain=2.0)),
        runtime="fragile", runtime_versions=">=1", kind="tensor",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2,)),),
        self_test_inputs={"x": sample}, self_test_expected={"x_out": 2 * sample},
    )  # fmt: skip
    with new_folder(folder) as work:
        bundle.assemble(work, parts)
    bundle.sign(folder, key)
    return folder


def serve(folder: Path, public_key: Path, *, port: int = 0, **environment: str) -> "subprocess.Popen[str]":
    """`edgeward serve` as a process with the fragile runtime among its plug-ins."""
    words = ["serve", str(folder), "--key", str(public_key), "--port", str(port)]
    paths = [str(FRAGILE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "edgeward", *words],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )  # fmt: skip


def said_first(process: "subprocess.Popen[str]") -> str:
    """Its first line: where it serves, or why not."""
    assert process.stderr is not None
    return process.stderr.readline().strip()


def body(*numbers: float) -> bytes:
    """Samples of two numbers each, as the protocol takes them."""
    shape = [len(numbers) // 2, 2]
    return codec.to_json({"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": numbers}]})
