"""The model that everybody serves, and Edgeward's signed bundle of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from bench.serve_vs_peers.forms import Array, Facts

from edgeward.serve.protocol import DATATYPES

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class Bundle(NamedTuple):
    """`sample` is one input and `answer` what the bare session says to it, both without a batch axis."""

    model: Path
    folder: Path
    environment: Mapping[str, str]
    facts: Facts
    sample: Array
    answer: Array


def make(model: Path, work: Path, *, version: str = "1", name: str = "bench") -> Bundle:
    """Packs and signs `model` in `work` with a key of its own."""
    environment = {"XDG_CONFIG_HOME": str((work / "configuration").absolute())}
    folder = work / f"{name}-{version}.bundle"
    pack = ["pack", str(model), "-o", str(folder), "--name", name, "--version", version, "--overwrite"]
    for arguments in (pack, ["sign", str(folder)]):
        command = [sys.executable, "-m", "edgeward", *arguments]
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    session = bare_session(model)
    [node, *_], [output, *_] = session.get_inputs(), session.get_outputs()
    dtype, shape = _DTYPES[node.type], tuple(node.shape[1:])
    sample = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    answer = session.run([output.name], {node.name: sample[None]})[0][0]
    facts = Facts(node.name, output.name, DATATYPES[dtype], shape)
    return Bundle(model.absolute(), folder.absolute(), environment, facts, sample, answer)


def bare_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
