"""`edgeward bench`, as a person starts it."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from edgeward.cli.main import main
from edgeward.records.candidate import Comparison, Measurement

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits"
GOLDEN = Path(__file__).parents[2] / "golden"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def edgeward(tmp_path, monkeypatch, capfd):
    """Runs the command line with a configuration of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("EDGEWARD_TRUSTED_KEYS", raising=False)

    def run(*arguments):
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return run


def save(path, shape):
    """A model of one Add with an input of this shape."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["s"])], "g", [info("v", 1, shape)], [info("s", 1, shape)]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def one_sentence(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("edgeward: ")
    for word in words:
        assert word in done.err


def test_json_is_the_measurement_record_with_its_setting(edgeward):
    done = edgeward("bench", EXAMPLE / "digits.onnx", "--seconds", 0.2, "--threads", 1, "--json")
    found = msgspec.json.decode(done.out, type=Measurement)
    latency = found.latency
    assert latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms
    assert latency.runs >= 50
    assert found.setting.thread_count == 1
    assert found.setting.runtime_version.startswith("onnxruntime ")
    assert found.setting.conditions
    assert found.cold_start_ms == pytest.approx(found.load_ms + found.first_ms)
    assert found.peak_memory_bytes > 1_000_000
    assert found.energy_mj is None
    assert "random numbers" in done.err


def test_two_models_are_compared_in_one_race_with_an_interval(edgeward):
    options = ("--data", EXAMPLE / "evaluation.npz", "--preprocess", EXAMPLE / "preprocess.toml", "--seconds", 0.2)
    done = edgeward("bench", EXAMPLE / "digits.onnx", "--compare", EXAMPLE / "digits.onnx", *options, "--json")
    found = json.loads(done.out)
    comparison = msgspec.convert(found["comparison"], Comparison)
    assert comparison.ratio_ci[0] <= comparison.ratio <= comparison.ratio_ci[1]
    assert found["base"]["latency"]["runs"] == found["other"]["latency"]["runs"]
    assert done.err == ""


def test_a_person_sees_a_table_and_the_conditions(edgeward):
    done = edgeward("bench", EXAMPLE / "digits.onnx", "--seconds", 0.1)
    for word in ("p50", "p99", "spread", "load", "first run", "peak memory", "threads 1", "per core"):
        assert word in done.out
    assert done.code == 0


def test_an_input_that_is_free_beyond_the_batch_wants_real_data(edgeward):
    save("free.onnx", ["n", "length"])
    one_sentence(edgeward("bench", "free.onnx"), 2, "'v' is nxlength", "--data DATA")
    np.savez("d.npz", v=np.ones((3, 7), np.float32))
    done = edgeward("bench", "free.onnx", "--data", "d.npz", "--seconds", 0.1, "--json")
    assert msgspec.json.decode(done.out, type=Measurement).latency.runs > 0


def test_a_model_that_takes_batches_of_eight_is_not_supported(edgeward):
    save("eight.onnx", [8, 2])
    one_sentence(edgeward("bench", "eight.onnx"), 4, "has 8 on its first axis")


def test_what_is_no_model_is_one_sentence(edgeward):
    Path("empty.onnx").write_bytes(b"")
    Path("png.onnx").write_bytes(b"\x89PNG\r\n\x1a\n")
    one_sentence(edgeward("bench", "empty.onnx"), 2, "empty.onnx: this file is empty")
    one_sentence(edgeward("bench", "png.onnx"), 2, "png.onnx: ")
    one_sentence(edgeward("bench", "missing.onnx"), 2, "missing.onnx: no such model")
    one_sentence(edgeward("bench", GOLDEN / "bundle-v1-unsigned"), 6, "is not signed")
