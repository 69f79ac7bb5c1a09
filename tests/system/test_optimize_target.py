"""A search on another machine: over a real sshd on the loopback, on an emulated one, and by a profile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from loopback_sshd import Server, needs_sshd, serving
from models_for_tests import classifier, write_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model and its data."""
    made = tmp_path / "work"
    made.mkdir()
    onnx.save(classifier(), made / "model.onnx")
    write_samples(made / "data.npz")
    return made


def command(folder: Path, target: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "edgeward", "optimize", str(folder / "model.onnx"), "--data", str(folder / "data.npz"),
        "--target", target, "--threads", "1", "--no-cache", "-o", str(folder / "out"), "--json", *more,
    ]  # fmt: skip


def optimized(folder: Path, target: str, environment: Mapping[str, str], *more: str) -> dict[str, Any]:
    done = subprocess.run(command(folder, target, *more), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def outcome(folder: Path, target: str, environment: Mapping[str, str], *more: str) -> tuple[int, str]:
    """The exit code and the sentence of a search that ends badly, which leaves no output."""
    done = subprocess.run(command(folder, target, *more), env=environment, capture_output=True, text=True)
    assert sorted(os.listdir(folder)) == ["data.npz", "model.onnx"]
    assert "Traceback" not in done.stderr
    return done.returncode, next(line for line in done.stderr.splitlines() if line.startswith("edgeward: "))


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_candidate_runs_on_the_device_and_nothing_of_it_stays_there(server: Server, folder: Path) -> None:
    report = optimized(folder, server.host, server.environment())
    assert report.get("timing", "measured") == "measured"
    ran = [trial for trial in report["trials"] if not trial.get("failure")]
    assert len({trial["runtime"] for trial in ran}) > 1
    assert all(trial["latency_ms"]["runs"] for trial in ran)
    assert report["chosen"]["quality_drop"] <= 0.01
    assert (folder / "out" / "bundle" / "index.json").exists()
    assert _is_emptied(server.home / "tmp")


@needs_sshd
@pytest.mark.slow
def test_a_device_that_is_lost_in_the_middle_ends_the_search_in_a_sentence(server: Server, folder: Path) -> None:
    running = subprocess.Popen(
        command(folder, server.host), env=server.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if "float32 (" in line:
            break
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)  # the sshd of this connection
    rest = running.stderr.read()
    assert running.wait(60) == 5, said
    assert f"edgeward: {server.host} cannot be reached" in rest
    assert "Traceback" not in rest
    assert sorted(os.listdir(folder)) == ["data.npz", "model.onnx"]
    assert _is_emptied(server.home / "tmp")


@needs_sshd
@pytest.mark.slow
def test_ctrl_c_leaves_nothing_here_or_there(server: Server, folder: Path) -> None:
    running = subprocess.Popen(
        command(folder, server.host), env=server.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert running.stderr is not None
    next(line for line in running.stderr if "the model as given" in line)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert sorted(os.listdir(folder)) == ["data.npz", "model.onnx"]
    assert _is_emptied(server.home / "tmp")


def _is_emptied(folder: Path) -> bool:
    deadline = time.monotonic() + 30
    while os.listdir(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not os.listdir(folder)


@needs_sshd
def test_a_machine_without_python_is_told(tmp_path: Path, folder: Path) -> None:
    with serving(tmp_path, tmp_path / "cache", setting="ForceCommand /bin/sh -c 'exit 127'") as server:
        code, said = outcome(folder, server.host, server.environment())
    assert code == 5
    assert "there is no python3" in said


@needs_sshd
def test_a_full_disk_there_is_told(tmp_path: Path, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk: run it as root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: it needs CAP_SYS_ADMIN")
    try:
        home = f"SetEnv TMPDIR={small} XDG_CACHE_HOME={small} PATH=/usr/bin:/bin"
        with serving(tmp_path, tmp_path / "cache", setting=f"Match all\n{home}") as server:
            code, said = outcome(folder, server.host, server.environment())
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert code == 5
    assert "No space left on device" in said


@pytest.mark.parametrize(
    ("target", "code", "sentence"),
    [
        ("nobody@127.0.0.1:1", 5, "cannot be reached"),
        ("no such machine", 2, "is no file and names no machine"),
        ("missing.toml", 2, "is no file"),
        ("-oProxyCommand=id", 2, "names no machine"),
    ],
)
def test_what_is_no_target_is_told(folder: Path, target: str, code: int, sentence: str) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is missing: apt-get install openssh-client")
    got, said = outcome(folder, target, os.environ)
    assert got == code
    assert sentence in said


def test_a_machine_without_ssh_is_told(folder: Path) -> None:
    code, said = outcome(folder, "pi@raspberrypi", {**os.environ, "PATH": str(folder)})
    assert code == 4
    assert "there is no ssh" in said


@pytest.mark.parametrize("text", ["name = 3", "name = 'a'\nstray = 1", "\x00", "", "[[["])
def test_a_file_that_is_no_profile_is_told(folder: Path, tmp_path: Path, text: str) -> None:
    profile = tmp_path / "target.toml"
    profile.write_text(text)
    code, said = outcome(folder, str(profile), os.environ)
    assert code == 2
    assert str(profile) in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_profile_gives_forecasts_that_are_called_so_everywhere(folder: Path, tmp_path: Path) -> None:
    profile = tmp_path / "pi5.toml"
    profile.write_text(
        'name = "pi5"\narch = "aarch64"\nmemory_bytes = 1\nstorage_bytes = 1\ncpu_features = ["asimd", "asimddp"]\n'
        '[runtimes]\nonnxruntime = ">=1.20"\n'
    )
    report = optimized(folder, str(profile), os.environ, "--budget", "p95<9s,size<1MB")
    assert (report["target"], report["timing"]) == ("pi5", "forecast")
    told = " ".join(report["notes"])
    assert "not on pi5; size holds there too" in told
    assert "the limits on p95 were held against these forecasts" in told
    assert {trial["runtime"] for trial in report["trials"] if not trial.get("failure")} == {"onnxruntime"}
    assert any("names no litert" in (trial.get("failure") or "") for trial in report["trials"])
    assert any(trial["recipe"].startswith("int8-signed") for trial in report["trials"])
    page = (folder / "out" / "report.html").read_text()
    assert "Latency, median (forecast)" in page
    assert "Peak memory (forecast)" in page
    shown = subprocess.run(
        [sys.executable, "-m", "edgeward", "show", str(folder / "out" / "bundle")], capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "p50" not in shown.stdout  # a bundle carries no measurement that was not taken on its target


@needs_sshd
@pytest.mark.slow
def test_the_profile_that_a_probe_over_ssh_saves_is_that_machine_s(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "there.toml"
    probe = [sys.executable, "-m", "edgeward", "probe", server.host, "--no-peaks", "--save", str(profile)]
    subprocess.run(probe, env=server.environment(), capture_output=True, check=True)
    report = optimized(folder, str(profile), os.environ, "--time-limit", "5s")
    assert report.get("timing", "measured") == "measured"  # it is this machine, by another way
