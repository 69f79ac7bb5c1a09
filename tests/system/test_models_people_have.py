"""Whatever the model file is, the optimiser ends in a result or in one clear sentence: real files, and damaged ones."""

import random
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper
from tests.conformance.test_exporter_members import CHAINS, _model

SURVEY = Path(__file__).with_name("survey.py")
PACKAGE = Path(onnx.backend.test.__file__).parent / "data"
NODE_SAMPLE, FUZZED = 150, 200


def surveyed(files: Sequence[Path], limit_s: float) -> dict[str, str]:
    """How each ended. A program that dies has its file told as a crash, and goes on behind it."""
    endings: dict[str, str] = {}
    rest = [str(file) for file in files]
    while rest:
        finished = subprocess.run(
            [sys.executable, str(SURVEY)], input="\n".join(rest) + "\n", capture_output=True, text=True,
            timeout=limit_s, check=False,
        )  # fmt: skip
        for line in finished.stdout.splitlines():
            _, file, ending = line.split("\t", 2)
            endings[file] = ending
        rest = [file for file in rest if file not in endings]
        if rest:
            endings[rest.pop(0)] = f"CRASH exit code {finished.returncode}: {finished.stderr[-300:]}"
    return endings


def bad(endings: dict[str, str]) -> list[str]:
    return [f"{file}: {ending}" for file, ending in endings.items() if ending.startswith(("TRACEBACK", "CRASH"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_models_of_the_onnx_package(tmp_path):
    files = sorted(PACKAGE.glob("simple/*/model.onnx")) + sorted(PACKAGE.glob("pytorch-*/*/model.onnx"))
    files += [
        file for file in sorted(PACKAGE.glob("light/*.onnx")) if "vgg" not in file.name and "zfnet" not in file.name
    ]
    endings = surveyed([*files, *_node_tests(tmp_path)], 800)
    assert len(endings) == len(files) + NODE_SAMPLE
    assert not bad(endings)
    assert sum(ending == "runs" for ending in endings.values()) > len(endings) / 3


def _node_tests(folder: Path) -> Iterable[Path]:
    """A seeded sample of the models that the package makes for its operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = random.Random(0).sample(collect_testcases(None), NODE_SAMPLE)
    for number, case in enumerate(cases):
        file = folder / f"{number}-{case.name[:60]}.onnx"
        onnx.save(case.model, file)
        yield file


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_models(tmp_path):
    generator = random.Random(11)
    whole = [_model(nodes) for nodes in CHAINS.values()]
    files = []
    for number in range(FUZZED):
        file = tmp_path / f"{number}.onnx"
        model = onnx.ModelProto()
        model.CopyFrom(generator.choice(whole))
        file.write_bytes(generator.choice(MUTATIONS)(model, generator))
        files.append(file)
    endings = surveyed(files, 500)
    assert len(endings) == FUZZED
    assert not bad(endings)
    assert any(ending.startswith("told") for ending in endings.values())


def _flipped(model: onnx.ModelProto, generator: random.Random) -> bytes:
    data = bytearray(model.SerializeToString())
    for _ in range(generator.randint(1, 6)):
        data[generator.randrange(len(data))] = generator.randrange(256)
    return bytes(data)


def _cut(model: onnx.ModelProto, generator: random.Random) -> bytes:
    data = model.SerializeToString()
    return data[: generator.randrange(len(data))]


def _without_a_constant(model: onnx.ModelProto, generator: random.Random) -> bytes:
    if model.graph.initializer:
        del model.graph.initializer[generator.randrange(len(model.graph.initializer))]
    return model.SerializeToString()


def _in_a_circle(model: onnx.ModelProto, generator: random.Random) -> bytes:
    node = generator.choice(model.graph.node)
    node.input[0] = model.graph.output[0].name
    return model.SerializeToString()


def _named_twice(model: onnx.ModelProto, generator: random.Random) -> bytes:
    model.graph.node.append(generator.choice(model.graph.node))
    return model.SerializeToString()


def _of_no_number(model: onnx.ModelProto, generator: random.Random) -> bytes:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = np.full(tuple(tensor.dims), generator.choice([np.nan, np.inf, 1e38]), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def _of_another_size(model: onnx.ModelProto, generator: random.Random) -> bytes:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[generator.randrange(len(dims))].dim_value = generator.choice([0, 1, -3, 2**40])
    return model.SerializeToString()


def _of_a_strange_operator(model: onnx.ModelProto, generator: random.Random) -> bytes:
    node = generator.choice(model.graph.node)
    node.op_type, node.domain = generator.choice([("Nonsense", ""), ("Conv", "org.nowhere"), ("Loop", ""), ("If", "")])
    return model.SerializeToString()


def _with_weights_elsewhere(model: onnx.ModelProto, generator: random.Random) -> bytes:
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        place = generator.choice(["missing.bin", "../../../../etc/passwd", "/etc/passwd", ""])
        tensor.external_data.extend([onnx.StringStringEntryProto(key="location", value=place)])
    return model.SerializeToString()


def _with_a_strange_attribute(model: onnx.ModelProto, generator: random.Random) -> bytes:
    node = generator.choice(model.graph.node)
    node.attribute.append(helper.make_attribute(generator.choice(["pads", "strides", "axis", "group"]), [-1, 2**33]))
    return model.SerializeToString()


MUTATIONS = (
    _flipped, _cut, _without_a_constant, _in_a_circle, _named_twice, _of_no_number, _of_another_size,
    _of_a_strange_operator, _with_weights_elsewhere, _with_a_strange_attribute,
)  # fmt: skip
