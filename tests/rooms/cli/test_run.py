"""`edgeward run`, as a person starts it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from edgeward.cli.main import main

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


@pytest.fixture
def digits(edgeward):
    """A signed bundle that names handwritten digits of 8 × 8 grey pixels."""
    options = ("--preprocess", EXAMPLE / "preprocess.toml", "--labels", EXAMPLE / "labels.txt", "-o", "digits")
    assert edgeward("pack", EXAMPLE / "digits.onnx", *options).code == 0
    assert edgeward("sign", "digits").code == 0
    return Path("digits").resolve()


@pytest.fixture
def logarithm(edgeward):
    """A signed bundle that takes three numbers and answers their logarithms."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Log", ["v"], ["log"])], "g", [info("v", 1, ["n", 3])], [info("log", 1, ["n", 3])]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "log.onnx")
    np.savez("ones.npz", v=np.ones((2, 3), np.float32))
    assert edgeward("pack", "log.onnx", "--data", "ones.npz", "-o", "log").code == 0
    assert edgeward("sign", "log").code == 0
    return Path("log").resolve()


def lines(done):
    return [json.loads(line) for line in done.out.splitlines()]


def one_sentence(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("edgeward: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_each_image_of_a_folder_becomes_one_json_line_in_order(edgeward, digits):
    done = edgeward("run", digits, "-i", EXAMPLE / "unseen", "--json")
    found = lines(done)
    assert [Path(line["source"]).name for line in found] == [f"digit-{number}.png" for number in range(10)]
    assert all(set(line) == {"source", "at", "outputs", "latency_ms", "classes"} for line in found)
    assert all(set(line["latency_ms"]) == {"pre", "infer", "post", "total"} for line in found)
    assert all(np.shape(line["outputs"]["scores"]) == (10,) for line in found)
    assert all(line["classes"][0]["index"] == int(np.argmax(line["outputs"]["scores"])) for line in found)
    assert found[0]["at"].endswith("Z")
    assert done.err == ""


def test_the_samples_of_an_npz_are_answered_up_to_the_limit_with_the_best_classes(edgeward, digits):
    found = lines(edgeward("run", digits, "-i", EXAMPLE / "evaluation.npz", "--limit", 4, "--top", 3, "--json"))
    assert len(found) == 4
    assert found[3]["source"].endswith("evaluation.npz[3]")
    for line in found:
        scores = [one["score"] for one in line["classes"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)


def test_a_person_sees_a_table_that_fits_and_what_it_took(edgeward, digits):
    done = edgeward("run", digits, "-i", EXAMPLE / "unseen")
    assert "digit-0.png" in done.out
    assert "n 10, total p50" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 80


def test_a_corrupt_image_among_good_ones_is_told_and_the_others_are_answered(edgeward, digits, tmp_path):
    shutil.copytree(EXAMPLE / "unseen", tmp_path / "images")
    (tmp_path / "images" / "digit-4.png").write_bytes(b"\x89PNG\r\n and no more")
    done = edgeward("run", digits, "-i", "images", "--json")
    assert len(lines(done)) == 9
    assert "digit-4.png: this image cannot be decoded" in done.err
    assert "1 of 10 samples could not be answered" in done.err
    assert done.code == 2


def test_an_image_of_another_size_is_told_with_its_name(edgeward, digits):
    Image.new("L", (9, 8)).save("wide.png")
    done = edgeward("run", digits, "-i", "wide.png")
    assert done.code == 2
    assert done.out == ""
    assert "wide.png: input" in done.err


def test_an_answer_that_is_not_finite_is_null_and_told(edgeward, logarithm):
    np.savez("x.npz", x=np.array([[0, 1, -1], [1, 1, 1]], np.float32))
    done = edgeward("run", logarithm, "-i", "x.npz", "--json")
    assert [line["outputs"]["log"] for line in lines(done)] == [[None, 0.0, None], [0.0, 0.0, 0.0]]
    assert "classes" not in lines(done)[0]
    assert "x.npz[0]: the answer 'log' is not finite" in done.err
    assert done.code == 0


def test_a_sample_with_nan_is_told_and_the_others_are_answered(edgeward, logarithm):
    np.savez("v.npz", v=np.array([[1, 1, 1], [1, np.nan, 1]], np.float32))
    done = edgeward("run", logarithm, "-i", "v.npz", "--json")
    assert [line["source"] for line in lines(done)] == ["v.npz[0]"]
    assert "v.npz[1]: 'v' holds a value that is not finite" in done.err
    assert done.code == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"v": np.zeros((2, 4), np.float32)}, "'v' is 2x4; wanted Nx3"),
        ({"v": np.zeros(3, np.float32)}, "'v' is 3; wanted Nx3"),
        ({"w": np.zeros((2, 3), np.float32)}, "wanted an array 'v'; it has w"),
        ({"v": np.zeros((0, 3), np.float32)}, "there are no samples in it"),
        ({"v": np.array([["a", "b", "c"]])}, "'v' is <U1; wanted float32"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(edgeward, logarithm, arrays, words):
    np.savez("bad.npz", **arrays)
    one_sentence(edgeward("run", logarithm, "-i", "bad.npz", "--json"), 2, "bad.npz: ", words)


def test_what_cannot_be_read_at_all_is_one_sentence(edgeward, digits):
    Path("empty").mkdir()
    Path("notes.txt").write_text("no image")
    Path("cut.npz").write_bytes((EXAMPLE / "evaluation.npz").read_bytes()[:900])
    one_sentence(edgeward("run", digits, "-i", "missing.png"), 2, "missing.png: no such file or folder")
    one_sentence(edgeward("run", digits, "-i", "empty"), 2, "empty: there is no image in this folder")
    one_sentence(edgeward("run", digits, "-i", "notes.txt"), 2, "takes images")
    one_sentence(edgeward("run", digits, "-i", "cut.npz"), 2, "cut.npz: this is no readable .npz")
    with Path("array.npz").open("wb") as file:
        np.save(file, np.zeros((2, 8, 8, 1), np.uint8))
    one_sentence(edgeward("run", digits, "-i", "array.npz"), 2, "array.npz: this is a single .npy array")
    one_sentence(edgeward("run", "nowhere", "-i", "empty"), 2, "nowhere: no such bundle")


def test_nothing_unverified_runs(edgeward, digits):
    unseen = EXAMPLE / "unseen"
    one_sentence(edgeward("run", GOLDEN / "bundle-v1-unsigned", "-i", unseen), 6, "is not signed")
    one_sentence(edgeward("run", digits, "-i", unseen, "--key", GOLDEN / "stranger.pub"), 6, "unknown key")
    blob = max((digits / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    one_sentence(edgeward("run", digits, "-i", unseen), 6)


def test_best_classes_of_a_bundle_without_classes_are_a_wrong_call(edgeward, logarithm):
    np.savez("v.npz", v=np.ones((1, 3), np.float32))
    one_sentence(edgeward("run", logarithm, "-i", "v.npz", "--top", 2), 2, "names no classes")


DOOR = """[[pipeline]]
name = "door"
bundle = "digits"
source = { use = "replay", path = "recorded.npz", rate_hz = 200, each = true }
sinks = [{ use = "jsonl", path = "answers.jsonl" }]
"""


@pytest.fixture
def door(digits):
    """A pipeline of edgeward.toml over ten recorded digits."""
    shutil.copy(EXAMPLE / "evaluation.npz", "all.npz")
    np.savez("recorded.npz", x=np.load("all.npz")["image"][:10])
    Path("edgeward.toml").write_text(DOOR)


def test_a_declared_pipeline_is_run_by_its_name(edgeward, door):
    done = edgeward("run", "door")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [line["source"] for line in answers] == [f"recorded.npz[{number}]" for number in range(10)]
    assert all(line["age_ms"] >= 0 for line in answers)
    assert done.err == "edgeward: captured 10, answered 10\n"
    assert edgeward("run", "--json").out.count("\n") == 10, "the only pipeline needs no name"


@pytest.mark.parametrize(
    ("was", "written", "words"),
    [
        ("rate_hz = 200", 'rate_hz = "fast"', "edgeward.toml:4:51: source 'replay', rate_hz: wanted a number, got"),
        ("path = \"answers", "pth = \"answers", "edgeward.toml:5:27: sink 'jsonl': there is no pth; allowed are path"),
        ("use = \"jsonl\"", "use = \"json\"", "edgeward.toml:5:12: there is no sink 'json'; wanted one of"),
        ("use = \"replay\", ", "", "edgeward.toml:4:1: a source says what it is: wanted use"),
        ("path = \"recorded.npz\", ", "", "edgeward.toml:4:1: source 'replay': path is missing; allowed are path"),
        ("name = \"door\"", "name = \"The Door\"", "edgeward.toml:2:1: name: wanted text matching regex"),
        ("bundle = \"digits\"", "bundle = \"digits\"\nskip_unchanged = 7", "edgeward.toml:4:1: skip_unchanged: wanted"),
        ("bundle = \"digits\"", "bundle = \"digits\"\nspeed = 7", "edgeward.toml:4:1: there is no speed"),
        ("bundle = \"digits\"", "bundel = \"digits\"", "edgeward.toml:3:1: there is no bundel"),
        ("[[pipeline]]", "[pipeline]", "edgeward.toml:1:2: wanted a list, got a table"),
        ("door", "gate", "there is no pipeline 'door'; there are gate"),
    ],
)  # fmt: skip
def test_a_fault_in_a_declared_pipeline_is_told_by_line_and_column(edgeward, door, was, written, words):
    assert was in DOOR
    Path("edgeward.toml").write_text(DOOR.replace(was, written))
    one_sentence(edgeward("run", "door"), 2, words)


def test_answers_to_files_go_to_sinks_too(edgeward, digits):
    done = edgeward("run", digits, "-i", EXAMPLE / "unseen", "--json", "--sink", "answers.jsonl")
    assert done.code == 0
    assert Path("answers.jsonl").read_text() == done.out


def test_a_sink_that_did_not_take_everything_is_told_and_fails_the_run(edgeward, digits):
    done = edgeward("run", digits, "-i", EXAMPLE / "unseen", "--json", "--sink", "jsonl:/dev/full")
    assert len(lines(done)) == 10
    assert done.code == 1
    assert "/dev/full: no space left on the device" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-i", "ftp://host/x"), "there is no source for 'ftp'"),
        (("-i", "replay:x?colour=red"), "there is no colour"),
        (("-i", "replay:x?rate_hz=fast"), "rate_hz: wanted a number"),
        (("-i", "replay:"), "the path is empty"),
        (("-i", "replay:nowhere.npz"), "nowhere.npz: no such file or folder"),
        (("-i", "x.png", "--sink", "somewhere"), "somewhere: names no sink"),
        ((), "-i is missing"),
    ],
)
def test_a_source_or_sink_that_is_said_wrongly_is_one_sentence(edgeward, digits, arguments, words):
    one_sentence(edgeward("run", digits, *arguments), 2, words)


def test_a_run_over_files_opens_nothing_that_only_others_need(digits):
    command = [sys.executable, "-X", "importtime", "-m", "edgeward", "run", digits, "-i", EXAMPLE / "unseen", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    opened = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edgeward.serve.pipeline" in opened
    strangers = ("uvloop", "importlib.metadata", "edgeward.serve.http", "edgeward.serve.sinks")
    assert not opened.intersection(strangers)
