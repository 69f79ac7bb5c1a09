"""`edgeward show`, as a person starts it."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

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


def one_sentence(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("edgeward: ")
    for word in words:
        assert word in done.err


def test_a_model_tells_its_tensors_operators_and_size(edgeward):
    found = json.loads(edgeward("show", EXAMPLE / "digits.onnx", "--json").out)
    assert found["inputs"][0]["dtype"] == "float32"
    assert found["operators"]["Conv"] >= 1
    assert found["parameter_count"] > 1000
    assert found["macs"] > found["parameter_count"]
    assert "Conv" in edgeward("show", EXAMPLE / "digits.onnx").out


def test_a_bundle_tells_what_it_is_and_who_claims_to_have_signed_it(edgeward):
    found = json.loads(edgeward("show", GOLDEN / "bundle-v1-good", "--json").out)
    assert found["manifest"]["labels"] == ["low", "middle", "high"]
    assert len(found["signatures"]) == 1
    shown = edgeward("show", GOLDEN / "bundle-v1-wrong-key").out
    assert "not judged here: edgeward verify" in " ".join(shown.split())
    assert "nobody" in edgeward("show", GOLDEN / "bundle-v1-unsigned").out


def test_a_damaged_bundle_and_what_is_no_model_are_one_sentence(edgeward):
    Path("png.onnx").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("cut.onnx").write_bytes((EXAMPLE / "digits.onnx").read_bytes()[:700])
    one_sentence(edgeward("show", GOLDEN / "bundle-v1-truncated-model"), 6)
    one_sentence(edgeward("show", "png.onnx"), 2, "a PNG image")
    one_sentence(edgeward("show", "cut.onnx"), 2, "cut.onnx: ")
    one_sentence(edgeward("show", "missing"), 2, "missing: ")


@pytest.mark.parametrize(
    "arguments", [["optimize", "m.onnx", "--data", "d.npz", "-o", ""], ["show", ""], ["verify", "b", "--key", ""]]
)
def test_an_empty_path_is_wrong_input_and_not_the_current_folder(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edgeward", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "the path is empty" in capsys.readouterr().err
