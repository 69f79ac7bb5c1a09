"""`edgeward deploy` as far as it goes where systemd does not run the machine: what it writes, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward.cli.deployment import hidden

GOLDEN = Path(__file__).parents[2] / "golden"
TRUSTED = ("--key", GOLDEN / "signer.pub")


def deploy(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edgeward", "deploy", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_a_dry_run_prints_the_files_and_changes_nothing() -> None:
    done = deploy(GOLDEN / "bundle-v1-good", *TRUSTED, "--dry-run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    key, unit = json.loads(done.stdout)["files"]
    assert (key["path"], key["mode"]) == ("/etc/edgeward/golden/signer-1.pub", 0o644)
    assert key["text"] == (GOLDEN / "signer.pub").read_text()
    assert unit["path"] == "/etc/systemd/system/edgeward-golden.service"
    assert f"ExecStart={sys.executable} -X faulthandler -m edgeward serve " in unit["text"]
    assert not Path("/etc/edgeward/golden").exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["bundle-v1-good", "pi@127.0.0.1:1"], 5, "pi@127.0.0.1:1 cannot be reached"),
        (["bundle-v1-good", "--as", "sysvinit"], 2, "'sysvinit' is none of our packers; there are"),
        (["bundle-v1-flipped-bit-model", "--dry-run"], 6, "altered"),
        (["bundle-v1-unsigned", "--dry-run"], 6, "is not signed"),
        (["no-such-bundle"], 2, "no such bundle"),
        ([], 2, "Missing argument 'BUNDLE'."),
    ],
)
def test_what_cannot_be_deployed_is_told_in_a_sentence(words: list[str], code: int, sentence: str) -> None:
    paths = [GOLDEN / word if number == 0 else word for number, word in enumerate(words)]
    done = deploy(*paths, *TRUSTED)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line.startswith("edgeward: ")]) == 1


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs this machine")
def test_a_machine_without_systemd_is_told() -> None:
    for words in ([GOLDEN / "bundle-v1-good", *TRUSTED], ["--remove", "golden"]):
        done = deploy(*words)
        assert done.returncode == 4
        assert done.stderr.startswith("edgeward: this machine ")


def test_an_environment_that_a_service_cannot_read_is_told(tmp_path: Path) -> None:
    assert hidden(Path("/root/venv/bin/python")) == "units do not see /root"
    assert hidden(Path("/home/me/venv/bin/python")) == "units do not see /home"
    assert hidden(Path("/usr/bin/env")) == ""
    assert hidden(tmp_path).startswith("units do not see /")
