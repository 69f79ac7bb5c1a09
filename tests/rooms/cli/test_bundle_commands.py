"""`edgeward pack`, `sign` and `verify`, as a person starts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.bundle import peek
from edgeward.cli.main import main

GOLDEN = Path(__file__).parents[2] / "golden"


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def edgeward(tmp_path, monkeypatch, capfd):
    """Runs the command line in an empty folder with a configuration of its own; in this process, which is faster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))

    def run(*arguments, **environment):
        with monkeypatch.context() as during:
            for name, value in environment.items():
                during.setenv(name, value)
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def edgeward_process(tmp_path):
    """The same as a process, as a person starts it."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", "from edgeward.cli.main import main; main()", *arguments],
            env={**os.environ, "COLUMNS": "80", "XDG_CONFIG_HOME": str(tmp_path / "configuration")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def told(done, code, *words):
    """One sentence on standard error with `words` in it, nothing else, and this exit code."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("edgeward: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    return True


def save_model(path, *, shape=("batch", 4), classes=3, kind=TensorProto.FLOAT):
    """Flatten, cast and one matrix product."""
    size = int(np.prod([dim for dim in shape[1:] if isinstance(dim, int)]))
    weight = np.random.default_rng(0).standard_normal((size, classes)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", classes))],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_pack_sign_verify_by_their_first_arguments_alone(edgeward_process, tmp_path):
    edgeward = edgeward_process
    save_model(tmp_path / "My Model_v2.onnx")
    packed = edgeward("pack", "My Model_v2.onnx")
    assert packed.returncode == 0, packed.stderr
    assert "4 drawn samples" in packed.stdout
    assert "next: edgeward sign my-model-v2.bundle" in packed.stdout
    assert told(edgeward("verify", "my-model-v2.bundle"), 6, "is not signed", "try: edgeward sign my-model-v2.bundle")
    signed = edgeward("sign", "my-model-v2.bundle")
    assert signed.returncode == 0, signed.stderr
    assert f"made a new key pair: {tmp_path}/configuration/edgeward/signing.key" in signed.stderr
    again = edgeward("sign", "my-model-v2.bundle")
    assert again.returncode == 0
    assert again.stderr == ""
    verified = edgeward("verify", "my-model-v2.bundle", "--self-test")
    assert verified.returncode == 0, verified.stderr
    assert "is whole and signed" in verified.stdout
    assert "4 samples" in verified.stdout
    assert max(len(line) for line in verified.stdout.splitlines()) <= 80 + len(str(tmp_path))
    assert verified.stderr == ""


def test_json_is_one_document_and_nothing_else(edgeward, tmp_path):
    save_model(tmp_path / "m.onnx")
    packed = json.loads(edgeward("pack", "m.onnx", "-o", "b", "--json").stdout)
    signed = json.loads(edgeward("sign", "b", "--json").stdout)
    verified = json.loads(edgeward("verify", "b", "--self-test", "--json").stdout)
    assert packed["digest"] == signed["digest"] == verified["bundle"]["digest"]
    assert signed["key_created"] is True
    assert verified["signers"] == [
        {"key": signed["key"], "source": str(tmp_path / "configuration/edgeward/signing.pub")}
    ]
    assert verified["self_test"]["passed"] is True


def test_a_release_key_made_here_and_trusted_there(edgeward, tmp_path):
    save_model(tmp_path / "m.onnx")
    edgeward("pack", "m.onnx", "-o", "b")
    made = edgeward("sign", "b", "--new-key", "release.key")
    assert made.returncode == 0, made.stderr
    assert "next: edgeward verify b --key release.pub" in made.stdout
    assert edgeward("verify", "b", "--key", "release.pub").returncode == 0
    assert edgeward("verify", "b", EDGEWARD_TRUSTED_KEYS="release.pub").returncode == 0
    assert told(edgeward("verify", "b"), 6, "no key is trusted on this machine", "--key PUBLIC.pub")
    assert edgeward("sign", "b").returncode == 0
    assert edgeward("verify", "b").returncode == 0
    trusted = tmp_path / "configuration/edgeward/trusted"
    trusted.mkdir()
    shutil.copy(tmp_path / "release.pub", trusted)
    assert len(json.loads(edgeward("verify", "b", "--json").stdout)["signers"]) == 2
    assert told(edgeward("sign", "b", "--new-key", "release.key"), 2, "stands there already", "--key release.key")
    assert told(edgeward("sign", "b", "--key", "absent.key"), 2, "no such key", "--new-key absent.key")
    assert told(edgeward("sign", "b", "--key", "a", "--new-key", "b"), 2, "exclude each other")
    assert told(edgeward("verify", "b", "--key", "release.key"), 2, "is a private key")


def test_a_missed_self_test_is_refused(edgeward, tmp_path):
    from msgspec.structs import replace

    sys.path.insert(0, str(GOLDEN))
    try:
        import make
    finally:
        sys.path.remove(str(GOLDEN))
    from edgeward.bundle import assemble

    (tmp_path / "b").mkdir()
    assemble(tmp_path / "b", replace(make.parts(), self_test_expected={"x_out": np.ones((2, 3), np.float32)}))
    edgeward("sign", "b")
    done = edgeward("verify", "b", "--self-test", "--json")
    assert done.returncode == 6
    assert "misses its self-test: an answer is off by" in done.stderr
    assert json.loads(done.stdout)["self_test"]["passed"] is False


def test_a_bundle_inside_an_output_folder_is_signed_verified_and_packed_anew(edgeward, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(GOLDEN / "bundle-v1-unsigned", out / "bundle")
    (out / "report.json").write_text('{"reason": "new"}')
    assert edgeward("sign", "out").returncode == 0
    assert edgeward("verify", "out").returncode == 0
    anew = edgeward("pack", "out", "-o", "v2", "--name", "renamed", "--version", "2.0", "--json")
    assert anew.returncode == 0, anew.stderr
    bundle = peek(tmp_path / "v2")
    assert (bundle.manifest.name, bundle.manifest.version, bundle.signatures) == ("renamed", "2.0", ())
    reports = [path for path in (tmp_path / "v2/blobs/sha256").iterdir() if path.read_bytes() == b'{"reason": "new"}']
    assert len(reports) == 1
    assert told(edgeward("verify", "v2"), 6, "is not signed")
    assert told(edgeward("pack", "out", "-o", "v3", "--data", "d.npz"), 2, "holds a bundle already")


def test_labels_preprocessing_and_samples_go_into_the_bundle(edgeward, tmp_path):
    save_model(tmp_path / "m.onnx", shape=(1, 1, 2, 2))
    (tmp_path / "labels.txt").write_text("cat\ndog\nfish\n\n")
    (tmp_path / "pre.toml").write_text(
        '[[preprocess]]\ntype = "normalize"\nmean = [0.5]\nstd = [0.5]\n\n'
        '[[preprocess]]\ntype = "to_layout"\nlayout = "NCHW"\n'
    )
    pixels = np.random.default_rng(1).integers(0, 256, (9, 2, 2, 1), np.uint8)
    np.savez(tmp_path / "d.npz", x=pixels, labels=np.arange(9) % 3)
    options = ("--labels", "labels.txt", "--preprocess", "pre.toml")
    for data in ((), ("--data", "d.npz")):
        done = edgeward("pack", "m.onnx", "-o", "b", *options, *data, "--name", "pets", "--version", "7", "--overwrite")
        assert done.returncode == 0, done.stderr
        assert edgeward("sign", "b").returncode == 0
        assert edgeward("verify", "b", "--self-test").returncode == 0
        manifest = peek(tmp_path / "b").manifest
        assert (manifest.name, manifest.version, manifest.kind) == ("pets", "7", "image")
        assert manifest.labels == ("cat", "dog", "fish")
        assert manifest.inputs[0].dtype == "uint8"
        assert manifest.inputs[0].shape == (2, 2, 1)
        assert len(manifest.preprocess) == 2
        assert (manifest.model.parameter_count, manifest.runtime) == (12, "onnxruntime")


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16])
def test_drawn_samples_fit_every_kind_of_input(edgeward, tmp_path, kind):
    save_model(tmp_path / "m.onnx", kind=kind)
    assert edgeward("pack", "m.onnx", "-o", "b").returncode == 0
    edgeward("sign", "b")
    assert edgeward("verify", "b", "--self-test").returncode == 0


def test_bad_models_are_told_in_one_sentence_and_leave_nothing(edgeward, tmp_path):
    save_model(tmp_path / "good.onnx")
    save_model(tmp_path / "free.onnx", shape=("batch", "length"))
    save_model(tmp_path / "text.onnx", kind=TensorProto.STRING)
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:60])
    (tmp_path / "picture.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "folder.onnx").mkdir()
    unknown = onnx.load(tmp_path / "good.onnx")
    unknown.graph.node[1].op_type = "Dream"
    onnx.save(unknown, tmp_path / "unknown.onnx")
    apart = onnx.load(tmp_path / "good.onnx")
    onnx.save(apart, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)
    before = sorted(tmp_path.iterdir())
    for name, code, words in (
        ("absent.onnx", 2, "no such model"),
        ("empty.onnx", 2, "is empty, wanted an ONNX model"),
        ("cut.onnx", 2, "cut.onnx: this is no valid ONNX model"),
        ("picture.onnx", 2, "picture.onnx: this is no valid ONNX model"),
        ("noise.onnx", 2, "noise.onnx: this is no valid ONNX model"),
        ("free.onnx", 2, "has a free dimension 'length'"),
        ("folder.onnx", 2, "is an empty folder"),
        ("text.onnx", 4, "takes string; wanted numbers"),
        ("unknown.onnx", 4, "has no operator Dream"),
        ("apart.onnx", 2, "keeps its weights in other files"),
    ):
        assert told(edgeward("pack", name, "-o", "b"), code, words)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "configuration") == before


def test_bad_options_are_told_in_one_sentence(edgeward, tmp_path):
    save_model(tmp_path / "m.onnx")
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "gap.txt").write_text("a\n\nb\n")
    (tmp_path / "none.txt").touch()
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "slip.toml").write_text('[[preprocess]]\ntype = "normalise"\n')
    (tmp_path / "field.toml").write_text('[[preprocess]]\ntype = "normalize"\nmeen = [1.0]\n')
    np.savez(tmp_path / "other.npz", x=np.zeros((4, 9), np.float32))
    np.savez(tmp_path / "nan.npz", x=np.full((4, 4), np.nan, np.float32))
    for options, words in (
        (("--labels", "two.txt"), "there are 2 labels; the output 'y' has 3 classes"),
        (("--labels", "gap.txt"), "gap.txt: line 2 is empty"),
        (("--labels", "none.txt"), "none.txt: is empty"),
        (("--labels", "bytes.txt"), "bytes.txt: is no text in UTF-8"),
        (("--labels", "absent.txt"), "absent.txt: no such file"),
        (("--preprocess", "slip.toml"), "normalise"),
        (("--preprocess", "field.toml"), "unknown field $.preprocess[0].meen"),
        (("--preprocess", "absent.toml"), "absent.toml: no such file"),
        (("--data", "absent.npz"), "absent.npz: no such data set"),
        (("--data", "other.npz"), "wants 4 per sample, got 9"),
        (("--data", "nan.npz"), "not finite"),
        (("--name", "My Name"), "--name 'My Name'"),
        (("--version", "a/b"), "--version 'a/b'"),
    ):
        assert told(edgeward("pack", "m.onnx", "-o", "b", *options), 2, words), options
    assert not (tmp_path / "b").exists()


def test_an_output_that_exists_is_kept_unless_it_may_be_replaced(edgeward, tmp_path):
    save_model(tmp_path / "m.onnx")
    assert edgeward("pack", "m.onnx", "-o", "b").returncode == 0
    digest = peek(tmp_path / "b").digest
    assert told(edgeward("pack", "m.onnx", "-o", "b", "--version", "2"), 2, "exists and is not empty", "--overwrite")
    assert peek(tmp_path / "b").digest == digest
    assert edgeward("pack", "m.onnx", "-o", "b", "--version", "2", "--overwrite").returncode == 0
    assert peek(tmp_path / "b").manifest.version == "2"


@pytest.mark.parametrize("verb", ["sign", "verify"])
def test_what_is_no_bundle_is_wrong_input(edgeward, tmp_path, verb):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.onnx").write_text("model")
    assert told(edgeward(verb, "absent"), 2, "absent: no such bundle")
    assert told(edgeward(verb, "empty"), 2, "empty: is an empty folder")
    assert told(edgeward(verb, "file.onnx"), 2, "is a file, wanted a bundle's folder", "try: edgeward pack file.onnx")
    assert told(edgeward(verb, "."), 2, "there is no oci-layout in it")


def test_nothing_heavy_is_loaded_to_verify():
    program = (
        "import sys; import edgeward.bundle;"
        "print([name for name in ('PIL', 'onnx', 'rich', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
