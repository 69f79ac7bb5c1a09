"""`edgeward deploy --pipeline` as far as it goes without systemd: the unit and the settings, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "golden"
PIPELINES = """
[[pipeline]]
name = "scale"
bundle = "golden"
keys = ["signer.pub"]
source = { use = "serial", device = "/dev/ttyUSB0" }
sinks = [{ use = "jsonl", path = "logs/answers.jsonl" }]

[[pipeline]]
name = "cellar"
bundle = "golden"
keys = ["signer.pub"]
source = { use = "mqtt", url = "mqtt://me:secret@broker.lan/cellar/#", password_file = "/etc/broker" }
sinks = [{ use = "sqlite", path = "/srv/answers/answers.db" }]

[[pipeline]]
name = "near"
bundle = "golden"
keys = ["signer.pub"]
source = { use = "mqtt", url = "mqtt://192.0.2.7/x" }
sinks = [{ use = "mjpeg", address = "127.0.0.1:8090" }]

[[pipeline]]
name = "told"
bundle = "golden"
keys = ["signer.pub"]
source = { use = "shm", name = "x" }
sinks = [{ use = "command", command = "./notify.sh" }]

[[pipeline]]
name = "over"
bundle = "golden"
keys = ["signer.pub"]
source = { use = "files", path = "photos" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "bundle-v1-good", tmp_path / "golden")
    shutil.copy(GOLDEN / "signer.pub", tmp_path)
    (tmp_path / "edgeward.toml").write_text(PIPELINES)
    return tmp_path


def deploy(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edgeward", "deploy", *words, "--dry-run", "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=os.environ, check=False)


def packed(folder: Path, name: str) -> tuple[dict[str, object], dict[str, object], str]:
    """The settings as a file, what they say, and the unit."""
    done = deploy(folder, "--pipeline", name)
    assert (done.returncode, done.stderr) == (0, "")
    _, settings, unit = json.loads(done.stdout)["files"]
    return settings, tomllib.loads(settings["text"])["pipeline"][0], unit["text"].replace(sys.executable, "PYTHON")


@pytest.mark.parametrize("name", ["scale", "cellar"])
def test_the_unit_is_the_golden_one(folder: Path, name: str) -> None:
    pytest.importorskip("serial" if name == "scale" else "paho.mqtt", reason="pip install edgeward[serial,mqtt]")
    unit = packed(folder, name)[2]
    assert unit == (GOLDEN / f"edgeward-{name}.service").read_text(), "review the difference like code"


def test_what_it_needs_is_rewritten_to_places_of_the_service(folder: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="pip install edgeward[mqtt]")
    settings, said, unit = packed(folder, "cellar")
    assert (settings["path"], settings["mode"]) == ("/etc/edgeward/cellar/edgeward.toml", 0o600)
    assert said["bundle"] == "/var/lib/edgeward/services/cellar/current"
    assert said["source"]["password_file"] == "/run/credentials/edgeward-cellar.service/source-etc-broker"  # type: ignore[index]
    assert "secret" not in unit
    said = packed(folder, "scale")[1]
    assert said["sinks"] == [{"use": "jsonl", "path": "/var/lib/edgeward-scale/logs/answers.jsonl"}]


def test_addresses_that_are_known_are_the_only_ones(folder: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="pip install edgeward[mqtt]")
    assert {"IPAddressDeny=any", "IPAddressAllow=192.0.2.7 localhost"} <= set(packed(folder, "near")[2].splitlines())


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["told"], 4, "sink 'command': what it needs of the machine is not known"),
        (["over"], 2, "its source ends with its last sample"),
        (["none"], 2, "there is no pipeline 'none'"),
        (["scale", "golden"], 2, "--pipeline names its own bundle"),
        (["scale", "--port", "80"], 2, "a pipeline serves on no port"),
    ],
)
def test_what_cannot_be_a_service_is_told(folder: Path, words: list[str], code: int, sentence: str) -> None:
    done = deploy(folder, "--pipeline", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
