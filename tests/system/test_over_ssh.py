"""Every verb that looks at another machine, over a real sshd on the loopback: cut in the middle, refused, lost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import old_python
import pytest
from loopback_sshd import Server, needs_sshd, new_key, serving

import edgeward.measure
from edgeward.kit import codec
from edgeward.measure import machine, naming
from edgeward.records.candidate import BenchMeasurement
from edgeward.records.profile import ModelProfile
from edgeward.records.target import Machine

pytestmark = needs_sshd


class Verb(NamedTuple):
    """How a verb is called, and what it says (on which stream) when it is in the middle of its work there."""

    name: str
    options: tuple[str, ...]
    stream: str
    busy: str

    def command(self, host: str) -> list[str]:
        words = (word.replace("HOST", host).replace("MODEL", str(MODEL)) for word in self.options)
        return [sys.executable, "-m", "edgeward", self.name, *words]


MODEL = Path(edgeward.measure.__file__).parent / "peak_models" / "fp32.onnx"
TOP = Verb("top", ("HOST", "--json", "--interval", "200ms"), "stdout", '"hostname"')
PROBE = Verb("probe", ("HOST", "--json"), "stderr", "looking at the device")
BENCH = Verb("bench", ("MODEL", "--json", "--seconds", "20", "--target", "HOST"), "stderr", "measuring on")
PROFILE = Verb("profile", ("MODEL", "--target", "HOST", "-o", "out", "--seconds", "20"), "stderr", "running the model")
DOCTOR = Verb("doctor", ("HOST", "--json"), "stderr", "")
QUICK = [pytest.param(TOP, id="top")]
SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]
ALL = [*QUICK, *(pytest.param(verb, id=verb.name, marks=SLOW) for verb in (PROBE, BENCH, PROFILE))]
REFUSED = [*QUICK, *(pytest.param(verb, id=verb.name) for verb in (DOCTOR, BENCH, PROFILE))]


def outcome(verb: Verb, host: str, environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """The exit code and what was said of a call that ends badly."""
    done = subprocess.run(verb.command(host), env=environment, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def heard(running: "subprocess.Popen[str]", verb: Verb) -> None:
    """Waits until the verb is in the middle of its work."""
    stream: IO[str] | None = getattr(running, verb.stream)
    assert stream is not None
    assert any(verb.busy in line for line in stream), "it ended before"


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in children.read_text().split()] if children.exists() else []
    return found + [one for child in found for one in descendants(child)]


def are_gone(pids: list[int]) -> bool:
    """Whether these processes end, within a time."""
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if _runs(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_emptied(folder: Path) -> bool:
    deadline = time.monotonic() + 30
    while os.listdir(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not os.listdir(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command runs; nothing may be left in it."""
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.mark.parametrize("verb", ALL)
def test_a_connection_cut_in_the_middle_is_one_sentence_and_leaves_nothing(
    server: Server, folder: Path, verb: Verb
) -> None:
    running = subprocess.Popen(
        verb.command(server.host), env=server.environment(), cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    heard(running, verb)
    there = descendants(server.process.pid)
    assert any("python" in Path(f"/proc/{pid}/comm").read_text() for pid in there)
    for child in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)  # the sshd of this connection; what it started lives on
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 5
    told = [line for line in complaint.splitlines() if line.startswith("edgeward: ")]
    assert len(told) == 1
    assert f"{server.host} cannot be reached" in told[0]
    assert "Traceback" not in complaint
    assert are_gone(there)
    assert is_emptied(server.home / "tmp")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("verb", ALL)
def test_ctrl_c_ends_it_here_and_there(server: Server, folder: Path, verb: Verb) -> None:
    running = subprocess.Popen(
        verb.command(server.host), env=server.environment(), cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    heard(running, verb)
    there = descendants(server.process.pid)
    running.send_signal(signal.SIGINT)
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in complaint
    assert are_gone(there)
    assert is_emptied(server.home / "tmp")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("verb", REFUSED)
def test_a_machine_that_cannot_be_reached_is_told(server: Server, folder: Path, tmp_path: Path, verb: Verb) -> None:
    environment = server.environment()
    code, said = outcome(verb, "nobody@127.0.0.1:1", environment, folder)
    assert (code, "Connection refused" in said) == (5, True)
    code, said = outcome(verb, "nobody@no-such-host.invalid", environment, folder)
    assert (code, "no-such-host.invalid" in said) == (5, True)
    code, said = outcome(verb, f"nobody@{server.host.rpartition('@')[2]}", environment, folder)
    assert (code, "Permission denied" in said, "ssh-copy-id" in said) == (5, True, True)


@pytest.mark.parametrize("verb", REFUSED)
def test_a_machine_that_shows_another_key_than_before_is_told(
    server: Server, folder: Path, tmp_path: Path, verb: Verb
) -> None:
    known = Path(server.options[-1].partition("=")[2])
    port = server.host.rpartition(":")[2]
    other = new_key(tmp_path / "another").with_suffix(".pub").read_text()
    known.write_text(f"[127.0.0.1]:{port} {' '.join(other.split()[:2])}\n")
    code, said = outcome(verb, server.host, server.environment(), folder)
    assert code == 5
    assert "another host key" in said
    assert f"ssh-keygen -R '[127.0.0.1]:{port}'" in said


@pytest.mark.parametrize("verb", REFUSED)
def test_a_machine_whose_key_nobody_has_seen_is_told(server: Server, folder: Path, verb: Verb) -> None:
    strict = tuple(word.replace("accept-new", "yes") for word in server.options)
    code, said = outcome(verb, server.host, server._replace(options=strict).environment(), folder)
    assert (code, "is not known here yet" in said) == (5, True)


@pytest.mark.parametrize("verb", QUICK)
@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("ForceCommand /bin/sh -c 'exit 127'", 5, "there is no python3"),
        ("ForceCommand /bin/sh -c 'echo Welcome; exit 3'", 5, "cannot be reached"),
        ("ForceCommand /bin/sh -c 'exit 0'", 5, "ended there before"),
    ],
)
def test_a_machine_without_python_is_told(
    tmp_path: Path, folder: Path, verb: Verb, setting: str, code: int, words: str
) -> None:
    with serving(tmp_path, tmp_path / "cache", setting=setting) as server:
        got, said = outcome(verb, server.host, server.environment(), folder)
    assert got == code
    assert words in said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bench_on_a_device_is_a_measurement_of_that_device(server: Server, folder: Path) -> None:
    command = [sys.executable, "-m", "edgeward", "bench", str(MODEL), "--target", server.host, "--json"]
    done = subprocess.run(
        [*command, "--seconds", "0.2", "--compare", str(MODEL)], env=server.environment(), cwd=folder,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = codec.from_json(json.dumps(told["base"]).encode(), BenchMeasurement, "bench")
    assert found.target == naming.target_name()
    assert found.setting.device_id == naming.hostname()
    assert found.latency.p50_ms > 0
    assert told["comparison"]["verdict"] in ("tie", "faster", "slower")
    assert is_emptied(server.home / "tmp")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_profile_of_a_device_is_whole(server: Server, folder: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    command = [sys.executable, "-m", "edgeward", "profile", str(MODEL), "--target", server.host, "--runtime", runtime]
    done = subprocess.run(
        [*command, "--seconds", "0.2", "-o", "out", "--json"], env=server.environment(), cwd=folder,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = codec.from_json(done.stdout.encode(), ModelProfile, "profile")
    assert found.target == naming.target_name()
    assert found.setting.device_id == naming.hostname()
    assert found.roofs.gops_per_s["float32"] > 0
    assert len(found.roofs.bandwidths) == 3
    assert {node.fate for node in found.nodes} <= {"ran", "fused", "folded", "removed"}
    assert {"report.html", "profile.json", "layers.csv"} <= set(os.listdir(folder / "out"))
    assert is_emptied(server.home / "tmp")


def test_a_flame_graph_of_another_machine_is_refused(server: Server, folder: Path) -> None:
    code, said = outcome(PROFILE._replace(options=(*PROFILE.options, "--flame")), server.host, os.environ, folder)
    assert (code, "samples processes of this machine alone" in said) == (4, True)


def test_a_disk_without_room_there_is_told(tmp_path: Path, folder: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk cannot be mounted here: run it as root with CAP_SYS_ADMIN")
    try:
        home = f"Match all\nSetEnv TMPDIR={small} XDG_CACHE_HOME={small} PATH=/usr/bin:/bin"
        with serving(tmp_path, tmp_path / "cache", setting=home) as server:
            code, said = outcome(BENCH, server.host, server.environment(), folder)
        assert (code, "No space left on device" in said) == (5, True)
        assert not [path for path in small.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_bench_by_a_profile_is_refused(folder: Path, tmp_path: Path) -> None:
    profile = tmp_path / "pi5.toml"
    profile.write_text('name = "pi5"\narch = "aarch64"\nmemory_bytes = 1\nstorage_bytes = 1\n[runtimes]\n')
    code, said = outcome(BENCH, str(profile), dict(os.environ), folder)
    assert (code, "nothing runs on a profile" in said) == (4, True)


def test_user_at_host_is_a_machine_also_where_a_file_has_that_name(server: Server, folder: Path) -> None:
    name = "nobody@127.0.0.1:1"
    (folder / name).write_text("a file")
    code, said = outcome(BENCH, name, server.environment(), folder)
    assert (code, "Connection refused" in said) == (5, True)


def _top(server: Server, *more: str) -> dict[str, object]:
    command = [sys.executable, "-m", "edgeward", "top", server.host, "--json", "--count", "1", "--interval", "100ms"]
    done = subprocess.run([*command, *more], env=server.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frame: dict[str, object] = json.loads(done.stdout)
    return frame


def test_a_file_of_the_host_s_name_changes_nothing(server: Server, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / server.host).write_text("a file")
    assert _top(server)["machine"]


def test_what_a_login_script_says_is_no_frame(tmp_path: Path) -> None:
    noisy = "ForceCommand /bin/sh -c 'echo Welcome to {1}; eval exec $SSH_ORIGINAL_COMMAND'"
    with serving(tmp_path, tmp_path / "cache", setting=noisy) as server:
        assert _top(server)["machine"]


def test_a_machine_with_a_full_disk_is_looked_at_all_the_same(tmp_path: Path) -> None:
    with serving(tmp_path, tmp_path / "cache") as server:
        (server.home / "tmp").rmdir()
        (server.home / "tmp").write_text("no folder")
        assert _top(server)["machine"]


@pytest.fixture(scope="module")
def debian_11(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if reason := old_python.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="edgeward-bullseye-") as root:
        folder = tmp_path_factory.mktemp("bullseye")
        (folder / "empty").mkdir()
        enter = old_python.make(Path(root), folder / "empty")
        with serving(folder, folder / "unused", setting=f"ForceCommand {enter}") as server:
            yield server


@pytest.mark.slow
def test_python_3_9_of_debian_11_is_enough_and_nothing_is_written_there(debian_11: Server) -> None:
    empty = debian_11.home.parent / "empty"
    frame = _top(debian_11)
    assert frame["machine"]
    assert os.listdir(empty) == []


@pytest.mark.slow
def test_a_device_with_python_3_9_is_probed_by_its_files(debian_11: Server) -> None:
    command = [sys.executable, "-m", "edgeward", "probe", debian_11.host, "--json"]
    done = subprocess.run(command, env=debian_11.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = codec.from_json(done.stdout.encode(), Machine, "probe")
    here = machine.read_machine(with_peaks=False)
    changes = ("seen_at", "memory_available_bytes", "load", "memory_pressure", "storage_free_bytes", "temperature_c")
    differs = ("board", "readings", "os", "python", "runtimes", "virtualization")
    for field in set(Machine.__struct_fields__) - {*changes, *differs}:
        assert getattr(told, field) == getattr(here, field), field
    assert told.python.startswith("3.9")
    assert "bullseye" in told.os
    assert not any(one.works for one in told.runtimes)
    assert all("the device has Python 3.9, wanted 3.11" in one.reason for one in told.runtimes)
    assert os.listdir(debian_11.home.parent / "empty") == []


def installed(version: str) -> str:
    """A Python of this version, or a skip that says how to get it."""
    found = [*Path("/usr/bin").glob(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    if not found:
        pytest.skip(f"python{version} is missing: pyenv install {version}")
    return str(found[0])


@contextmanager
def with_programs(folder: Path, **programs: str) -> Iterator[Server]:
    """A machine on whose path these programs come first."""
    (folder / "bin").mkdir()
    for name, leads_to in programs.items():
        (folder / "bin" / name.replace("_", ".")).symlink_to(leads_to)
    (folder / "own").mkdir()
    setting = f"ForceCommand /bin/sh -c 'PATH={folder}/bin:/bin; eval exec $SSH_ORIGINAL_COMMAND'"
    with serving(folder / "own", folder / "cache", setting=setting) as server:
        yield server


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_an_older_python_is_told(tmp_path: Path, folder: Path, version: str) -> None:
    with with_programs(tmp_path, python3=installed(version)) as old:
        code, said = outcome(TOP, old.host, old.environment(), folder)
    assert code == 4
    assert f"its python3 is {version}, wanted 3.9 or newer" in said


def test_where_python3_is_too_old_to_measure_a_newer_one_beside_it_takes_over(tmp_path: Path) -> None:
    with with_programs(tmp_path, python3=installed("3.9"), python3_11=installed("3.11")) as old:
        place = old.place()
        said = place._ask({"do": "hello"})
        place.__exit__(None, None, None)
    assert said["python"] == [3, 11]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ["bench", "profile"])
def test_to_a_device_with_python_3_9_one_that_can_measure_comes_along(
    debian_11: Server, folder: Path, verb: str
) -> None:
    """Debian 11's C library is older than what comes along, too."""
    command = [sys.executable, "-m", "edgeward", verb, str(MODEL), "--target", debian_11.host, "--seconds", "0.2"]
    command += ["--json"] if verb == "bench" else ["-o", "out", "--json"]
    done = subprocess.run(command, env=debian_11.environment(), cwd=folder, capture_output=True, text=True)
    if done.returncode == 5 and "can be had" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["setting"]["device_id"] == naming.hostname()
    if verb == "bench":
        assert told["latency"]["p50_ms"] > 0
        assert "sending Python 3.11" in done.stderr
    else:
        assert told["roofs"]["gops_per_s"]["float32"] > 0
    assert os.listdir(debian_11.home.parent / "empty") == [], "what was put there for the time is gone"
