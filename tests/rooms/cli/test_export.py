"""`edgeward export` says in one sentence what is wrong, and leaves nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
GOOD = GOLDEN / "bundle-v1-good"


def export(folder: Path, *words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edgeward", "export", *map(str, words), "--key", str(GOLDEN / "signer.pub")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_form_is_written_to_a_folder_named_like_it_and_the_next_command_is_told(tmp_path: Path) -> None:
    said = export(tmp_path, GOOD, "--as", "quadlet", "--image", "registry.example/golden:1").stdout
    assert said.splitlines() == [
        "wrote golden-quadlet: edgeward-golden.container",
        "next: sudo cp golden-quadlet/*.container /etc/containers/systemd/ && sudo systemctl daemon-reload",
    ]
    told = json.loads(export(tmp_path, GOOD, "--as", "quadlet", "--overwrite", "--json").stdout)
    assert told == {"form": "quadlet", "folder": "golden-quadlet", "files": ["edgeward-golden.container"]}


def test_the_model_alone_is_the_same_image_each_time(tmp_path: Path) -> None:
    digests = [
        json.loads(export(tmp_path, GOOD, "--as", "model-image", "-o", name, "--json").stdout)["digest"]
        for name in ("one", "other")
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((GOOD, "--as", "floppy"), 2, "'floppy' is none of our packers; there are compose, containerfile, deb"),
        ((GOOD, "--as", "quadlet", "--image", "No Such"), 2, "--image 'No Such': is no name of an image"),
        ((GOLDEN / "bundle-v1-flipped-bit-model", "--as", "compose"), 6, "altered"),
        ((GOLDEN / "bundle-v1-unsigned", "--as", "compose"), 6, "is not signed"),
        (("nothing", "--as", "compose"), 2, "nothing: no such bundle"),
        (
            (GOOD, "--as", "oci-image", "--base", "busybox"),
            2,
            "--base busybox: is neither debian nor oci:FOLDER, nor an image HOST/NAME:TAG",
        ),
        ((GOOD, "--as", "deb", "--base", "oci:there"), 2, "--base oci:there: a package is for a Debian"),
        ((GOOD, "--as", "compose", "-o", "full"), 2, "full: the output folder exists and is not empty"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(
    tmp_path: Path, words: tuple[object, ...], code: int, sentence: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    assert sentence in export(tmp_path, *words, code=code).stderr
    assert sorted(tmp_path.rglob("*")) == before
