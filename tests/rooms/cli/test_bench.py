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
from edgeward.records.candidate import BenchMeasurement, Comparison

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
    found = msgspec.json.decode(done.out, type=BenchMeasurement)
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
    assert msgspec.json.decode(done.out, type=BenchMeasurement).latency.runs > 0


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


QUICK = ("--seconds", 0.2)
DIGITS = EXAMPLE / "digits.onnx"


@pytest.mark.slow
def test_a_model_against_itself_is_no_difference_and_a_rule_can_fail(edgeward):
    done = edgeward("bench", DIGITS, "--compare", DIGITS, *QUICK, "--fail-if", "load<-99%, memory>+900%", "--json")
    found = json.loads(done.out)
    assert done.code == 0, done.err
    assert [one["metric"] for one in found["changes"]] == ["p50", "p90", "p95", "p99", "throughput", "memory", "load"]
    assert found["changes"][5]["verdict"] == "no difference"  # memory is the one that no other program disturbs
    assert [one["failed"] for one in found["checks"]] == [False, False]
    missed = edgeward("bench", DIGITS, "--compare", DIGITS, *QUICK, "--fail-if", "memory<-0%@50%, memory>0%@50%")
    assert missed.code in (0, 3)  # a coin's side: half of confidence
    assert "memory" in missed.out


def test_a_rule_is_refused_with_its_place_before_anything_is_measured(edgeward):
    one_sentence(edgeward("bench", DIGITS, "--compare", DIGITS, "--fail-if", "p98>5%"), 2, "character 1", "p50, p90")
    one_sentence(edgeward("bench", DIGITS, "--fail-if", "p99>5%"), 2, "--compare BASE")
    one_sentence(edgeward("bench", DIGITS, "--compare", DIGITS, "--fail-if", "energy>5%"), 4, "energy")
    one_sentence(edgeward("bench", DIGITS, "--compare", DIGITS, "--sweep"), 2, "--compare and --sweep")
    one_sentence(edgeward("bench", DIGITS, "--quick"), 2, "--quick goes with --scenario")


@pytest.mark.parametrize("scenario", ["multi-stream", "offline"])
def test_a_quick_scenario_says_what_it_is_not(edgeward, scenario):
    done = edgeward("bench", DIGITS, "--scenario", scenario, "--quick", *QUICK, "--json")
    found = msgspec.json.decode(done.out, type=BenchMeasurement).scenario
    assert found.name == scenario
    assert "not an MLPerf result" in found.method
    assert any("600 s" in word for word in found.unmet)
    assert found.samples_per_s > 0


def test_a_bound_that_the_model_alone_misses_is_a_missed_gate(edgeward):
    done = edgeward("bench", DIGITS, "--scenario", "server", "--latency-bound", "0.1us", "--quick", *QUICK)
    assert done.code == 3
    assert "even one request a second misses it" in done.err
    bad = edgeward("bench", DIGITS, "--scenario", "server", "--latency-bound", "soon")
    assert bad.code == 2
    assert "'soon' is no time" in bad.err


@pytest.mark.slow
def test_the_server_scenario_finds_a_rate_that_keeps_a_wide_bound(edgeward):
    done = edgeward("bench", DIGITS, "--scenario", "server", "--latency-bound", "2s", "--quick", *QUICK, "--json")
    found = msgspec.json.decode(done.out, type=BenchMeasurement).scenario
    assert done.code == 0, done.err
    assert found.rate_per_s > 1
    assert found.percentile_ms <= found.latency_bound_ms == 2000
    assert found.tried[-1].kept


@pytest.mark.slow
def test_the_folder_holds_page_result_machine_layers_and_trace(edgeward):
    done = edgeward("bench", DIGITS, *QUICK, "--sweep", "--steady", "--cap", 0.05, "-o", "result", "--json")
    assert done.code == 0, done.err
    assert {path.name for path in Path("result").iterdir()} == {
        "report.html", "result.json", "env.json", "layers.csv", "trace.json",
    }  # fmt: skip
    found = msgspec.json.decode(Path("result/result.json").read_bytes(), type=BenchMeasurement)
    assert msgspec.json.decode(done.out, type=BenchMeasurement) == found
    assert found.sweep.fastest in found.sweep.points
    assert found.steady.windows
    page = Path("result/report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert json.loads(Path("result/env.json").read_text())["digest"] == found.model
    again = edgeward("bench", DIGITS, *QUICK, "-o", "result")
    assert again.code == 2
    assert "not empty" in again.err


@pytest.mark.slow
def test_an_earlier_result_as_base_is_measured_again_or_refused(edgeward):
    Path("m.onnx").write_bytes(DIGITS.read_bytes())
    assert edgeward("bench", "m.onnx", *QUICK, "-o", "before").code == 0
    assert edgeward("bench", DIGITS, "--compare", "before", *QUICK, "--json").code == 0
    save("m.onnx", [1, 2])
    changed = edgeward("bench", DIGITS, "--compare", "before", *QUICK)
    assert changed.code == 2
    assert "another model now" in changed.err
    Path("m.onnx").unlink()
    one_sentence(edgeward("bench", DIGITS, "--compare", "before"), 2, "measured again", "is gone")


def test_nothing_is_left_where_the_model_cannot_be_measured(edgeward):
    save("eight.onnx", [8, 2])
    assert edgeward("bench", "eight.onnx", "-o", "out").code == 4
    assert [path.name for path in Path().iterdir() if "out" in path.name] == []


def test_more_threads_than_cpus_is_said_and_measured(edgeward):
    done = edgeward("bench", DIGITS, *QUICK, "--threads", 9, "--json")
    assert done.code == 0
    assert "9 threads on" in done.err
