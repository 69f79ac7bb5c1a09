"""Variants and statements, as a person asks for them."""

import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeward.bundle import peek
from edgeward.cli.main import main

GOLDEN = Path(__file__).parents[2] / "golden"
VARIANTS = GOLDEN / "variants-v1"


@pytest.fixture
def edgeward(tmp_path, monkeypatch, capfd):
    """Runs the command line in this process: its exit code, what it printed and what it told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("EDGEWARD_TRUSTED_KEYS", str(GOLDEN / "signer.pub"))

    def run(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, words)])
            with pytest.raises(SystemExit) as end:
                main()
        return int(end.value.code or 0), *capfd.readouterr()

    return run


@pytest.fixture
def joined(edgeward, tmp_path, monkeypatch) -> Path:
    """A model for ONNX Runtime, and one for a runtime that is not probed; signed by this user."""
    monkeypatch.delenv("EDGEWARD_TRUSTED_KEYS")
    size = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [size], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    ])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    assert edgeward("pack", "m.onnx", "-o", "plain", "--name", "golden", "--version", "1.0")[0] == 0
    shutil.copytree(GOLDEN / "bundle-v1-unsigned", tmp_path / "echo")
    for name in ("plain", "echo"):
        assert edgeward("sign", name)[0] == 0
    code, _, err = edgeward("join", "plain", "echo", "-o", "all")
    assert code == 0, err
    return tmp_path / "all"


def test_which_variant_fits_is_told_with_the_reason(edgeward, joined) -> None:
    code, out, _ = edgeward("show", joined, "--for", "local", "--json")
    assert code == 0
    judged = json.loads(out)["variants"]
    assert [one["runtime"] for one in judged] == ["onnxruntime", "echo"]
    assert judged[0]["refused"] is None
    assert judged[0]["why"] == "not measured"
    assert judged[1]["refused"].startswith("echo does not run on ")
    code, out, _ = edgeward("show", joined, "--for", "local")
    assert "echo does not run on" in " ".join(out.split())
    code, _, _ = edgeward("show", VARIANTS, "--for", "local")
    assert code == 4, "none fits"


def test_a_folder_of_variants_is_taken_as_the_one_that_fits(edgeward, joined, tmp_path) -> None:
    code, out, err = edgeward("verify", joined, "--self-test", "--json")
    assert code == 0, err
    assert "takes the variant for onnxruntime" in err
    said = json.loads(out)
    assert said["self_test"]["passed"]
    taken = tmp_path / "home/.cache/edgeward/variants" / said["bundle"]["digest"].removeprefix("sha256:")
    assert peek(taken).digest == said["bundle"]["digest"]
    code, out, err = edgeward("run", joined, "--input", "x.npy", "--json")
    assert "x.npy" in err, "the bundle was opened, its input is what lacks"
    assert edgeward("verify", joined)[0] == 0, "a second time"


def test_a_variant_that_was_altered_is_refused_all_the_same(edgeward, joined) -> None:
    for blob in (joined / "blobs/sha256").iterdir():
        data = blob.read_bytes()
        if b"Relu" in data:
            blob.write_bytes(data.replace(b"Relu", b"Tanh"))
    code, _, err = edgeward("verify", joined)
    assert code == 6
    assert "came bytes with the digest" in err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", VARIANTS), 2, "holds several variants"),
        (("show", GOLDEN / "bundle-v1-good", "--for", "local"), 2, "holds one bundle and no variants"),
        (("show", GOLDEN / "bundle-v1-good", "--bom"), 6, "no trusted key states a https://cyclonedx.org/bom"),
        (("show", GOLDEN / "bundle-v1-unsigned", "--bom"), 6, "is not signed"),
        (("join", GOLDEN / "bundle-v1-good", "-o", "x"), 2, "wanted two bundles or more"),
        (("join", GOLDEN / "bundle-v1-good", VARIANTS, "-o", "x"), 6, "wanted application/vnd.oci.image.manifest"),
        (("pack", GOLDEN / "bundle-v1-good", "-o", "x", "--license", "My licence"), 2, "--license My licence: "),
        (("pack", GOLDEN / "bundle-v1-good", "-o", "x", "--tolerance", "pi=-1"), 2, "wanted TARGET=X"),
        (("pack", GOLDEN / "bundle-v1-good", "-o", "x", "--measured", "no.json"), 2, "no.json: no such measurement"),
        (("pack", "no.onnx", "-o", "x", "--tolerance", "pi=1"), 2, "serve a bundle"),
    ],
)
def test_what_cannot_be_is_one_sentence(edgeward, words, code, told) -> None:
    got, _, err = edgeward(*words)
    assert got == code, err
    assert told in " ".join(err.split())
    assert "Traceback" not in err


def test_from_a_measurement_on_a_device_to_a_bundle_that_says_so(edgeward, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("EDGEWARD_TRUSTED_KEYS")
    code, out, err = edgeward("bench", GOLDEN / "bundle-v1-good", "--key", GOLDEN / "signer.pub", "--json")
    assert code == 0, err
    (tmp_path / "here.json").write_text(out)
    target = json.loads(out)["target"]
    words = ("--license", "apache-2.0", "--measured", "here.json", "--tolerance", f"{target}=0.5", "--version", "2")
    code, _, err = edgeward("pack", GOLDEN / "bundle-v1-good", "-o", "two", *words)
    assert code == 0, err
    assert edgeward("sign", "two")[0] == 0
    code, out, err = edgeward("verify", "two", "--self-test", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["statements"] == ["https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"]
    assert said["self_test"]["tolerance"] == 0.5
    assert said["cost"]["wanted_ms"] > 0
    code, out, _ = edgeward("show", "two", "--bom")
    bom = json.loads(out)
    assert bom["metadata"]["component"]["licenses"] == [{"expression": "Apache-2.0"}]
    code, out, _ = edgeward("show", "two", "--provenance")
    assert [one["name"] for one in json.loads(out)["runDetails"]["byproducts"]] == [
        "measurement on golden-target", f"measurement on {target}"
    ]  # fmt: skip
    code, out, _ = edgeward("verify", "two")
    assert "states a bill of materials (CycloneDX): edgeward show BUNDLE --bom" in " ".join(out.split())
