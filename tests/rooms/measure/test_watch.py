"""What `edgeward top` sees of services and of the machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeward.measure.carry import WATCH
from edgeward.measure.watch import machines, notices, processes, questions, watcher
from edgeward.measure.watch.questions import Said
from edgeward.records.watch import Frame

STATS = {
    "server": {"version": "1", "uptime_s": 5.0, "ready": True},
    "model_stats": [{"name": "a", "version": "1", "requests": 10, "errors": 0, "dropped": 0, "latency_ms": {}}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a service of this process leaves its notice."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "edgeward"))
    return tmp_path / "edgeward"


@pytest.fixture
def killed() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def stats(requests: int, uptime_s: float = 5.0) -> dict[str, Any]:
    row = {**STATS["model_stats"][0], "requests": requests}  # type: ignore[index]
    return {"server": {**STATS["server"], "uptime_s": uptime_s}, "model_stats": [row]}  # type: ignore[dict-item]


def seen(at_s: float, said: dict[str, Any] | None, pid: int | None = 1) -> watcher._Seen:
    return watcher._Seen(pid, Said(at_s, said, "" if said else "it does not answer"), None)


def test_a_service_is_found_while_it_runs_and_not_after(folder: Path) -> None:
    with notices.announced("http://0.0.0.0:8123"):
        (found,) = notices.found((folder,))
        assert (found.url, found.pid, found.lives) == ("http://127.0.0.1:8123", os.getpid(), True)
    assert notices.found((folder,)) == []


def test_the_notice_of_a_killed_service_is_known_as_such_and_goes_with_the_next_service(
    folder: Path, killed: int
) -> None:
    folder.mkdir()
    stale = folder / f"serve-{killed}.json"
    stale.write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": killed, "started": 1}))
    (found,) = notices.found((folder,))
    assert not found.lives
    with notices.announced("http://127.0.0.1:8123"):
        assert not stale.exists()


def test_a_process_with_the_number_of_a_dead_service_is_not_taken_for_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "serve-1.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid(), "started": 1}))
    (found,) = notices.found((folder,))
    assert not found.lives


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"url": 3}', "\x00", '{"url": "http://127.0.0.1:8000", "pid": "1", "started": 1}',
        '{"url": "http://192.0.2.1:8000", "pid": 1, "started": 1}',
        '{"url": "http://example:80", "pid": 1, "started": 1}',
        '{"url": "https://127.0.0.1:80", "pid": 1, "started": 1}', '{"url": "http://[::1", "pid": 1, "started": 1}',
        '{"url": "http://127.0.0.1:80/x", "pid": 1, "started": 1}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_notice_of_this_machine_is_left_alone(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "serve-1.json").write_text(text)
    assert notices.found((folder,)) == []


def test_a_link_is_no_notice(folder: Path) -> None:
    with notices.announced("http://127.0.0.1:8123"):
        (folder / "serve-0.json").symlink_to(folder / f"serve-{os.getpid()}.json")
        assert len(notices.found((folder,))) == 1


def test_a_service_that_may_leave_no_notice_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "file" / "edgeward"))
    with notices.announced("http://127.0.0.1:8123"):
        pass


def test_rates_are_of_the_time_between_two_answers() -> None:
    told = watcher.service("http://x", seen(1.0, stats(10)), seen(3.0, stats(50)), 2.0)
    assert told["models"][0]["rate_per_s"] == 20
    assert told["state"] == "ready"


@pytest.mark.parametrize("before", [None, seen(1.0, None), seen(1.0, stats(9), pid=2), seen(1.0, stats(9, 99.0))])
def test_a_service_that_was_not_there_before_or_began_anew_has_no_rate_yet(before: watcher._Seen | None) -> None:
    told = watcher.service("http://x", before, seen(3.0, stats(50)), 2.0)
    assert "rate_per_s" not in told["models"][0]


def test_a_service_that_does_not_answer_says_why() -> None:
    told = watcher.service("http://x", seen(1.0, stats(10)), seen(3.0, None), 2.0)
    assert (told["state"], told["reason"]) == ("silent", "it does not answer")


def test_what_is_no_service_is_not_taken_for_one() -> None:
    answers = questions.ask(["http://127.0.0.1:1", "http://nowhere.invalid:80"])
    assert [one.stats for one in answers.values()] == [None, None]
    assert all(one.reason for one in answers.values())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "it closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there speaks no HTTP"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n{}", "HTTP 404: no edgeward service answers there"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "HTTP 200: no edgeward service answers there"),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", "HTTP 200: no edgeward service answers there"),
    ],
)
def test_a_reply_that_is_none_says_what_it_is(reply: bytes, reason: str) -> None:
    assert questions.read(reply, 1.0) == Said(1.0, None, reason)


def test_one_service_that_hangs_keeps_no_other_from_being_heard(folder: Path) -> None:
    import socket

    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        urls = [f"http://127.0.0.1:{hung.getsockname()[1]}", "http://127.0.0.1:1"]
        answers = questions.ask(urls, limit_s=0.2)
    assert [answers[url].reason for url in urls] == ["it does not answer", "Connection refused"]


def test_a_frame_without_services_tells_of_the_machine(tmp_path: Path) -> None:
    one = watcher.Watcher(root=tmp_path)
    one.frame()
    frame = msgspec.convert(one.frame(), Frame)
    assert frame.machine.temperature_c is None
    assert frame.machine.cpu_busy is None


def test_a_service_that_dies_is_told_of_and_one_that_comes_back_is_there_again(folder: Path) -> None:
    program = (
        "import sys, time\nfrom edgeward.measure.watch.notices import announced\n"
        "with announced('http://127.0.0.1:1'):\n    print('on', flush=True)\n    sys.stdin.read()\n"
    )

    def start() -> "subprocess.Popen[str]":
        made = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True)
        assert made.stdout is not None
        made.stdout.readline()
        return made

    def state(one: watcher.Watcher) -> str:
        states = [told["state"] for told in one.frame()["services"] if told["url"] == "http://127.0.0.1:1"]
        return str(states[0]) if states else "none"

    one = watcher.Watcher(["http://127.0.0.1:1"])
    one._urls = ()
    first = start()
    assert state(one) == "silent"  # it runs; nobody listens at that port
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert state(one) == "died"
    second = start()
    assert state(one) == "silent"
    second.communicate("")
    assert state(one) == "stopped"


def test_cpu_is_by_thread_and_what_is_new_counts_from_its_start() -> None:
    before = processes.Process({1: processes.Thread("a", 100, 0)}, 1, "PSS")
    after = processes.Process({1: processes.Thread("a", 110, 0), 2: processes.Thread("b) (c", 50, 1)}, 1, "PSS")
    rows = processes.cpu_by_thread(before, after, 100 / processes.TICKS_PER_S)
    assert [(row["id"], row["cpu"]) for row in rows] == [(2, 0.5), (1, 0.1)]


def test_our_own_process_is_read_with_its_odd_name() -> None:
    from edgeward.kit.threads import named

    with named("a) (b"):
        found = processes.read(os.getpid())
    assert found is not None
    assert "a) (b" in {thread.name for thread in found.threads.values()}
    assert found.memory_bytes > 1 << 20


def test_power_is_of_the_sensor_else_of_the_energy_counters(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    core = tmp_path / "sys/class/powercap/intel-rapl:0:0"
    for folder, value in ((zone, 5_000_000), (core, 9_000_000)):
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text(str(value))
    before = machines.read(tmp_path)
    (zone / "energy_uj").write_text("9_000_000".replace("_", ""))
    after = machines.read(tmp_path)
    assert machines.power_mw(before, after, 2.0, tmp_path) == 2000.0
    assert machines.power_mw(after, before, 2.0, tmp_path) is None  # the counter began anew
    sensor = tmp_path / "sys/class/hwmon/hwmon0"
    sensor.mkdir(parents=True)
    (sensor / "power1_input").write_text("3500000")
    assert machines.power_mw(before, after, 2.0, tmp_path) == 3500.0


@pytest.mark.parametrize("name", WATCH)
def test_what_is_carried_to_a_device_imports_the_standard_library_and_what_is_carried_with_it(name: str) -> None:
    code = f"import sys, {name}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = {module for module in done.stdout.split() if module.partition(".")[0] == "edgeward"}
    others = {module.partition(".")[0] for module in done.stdout.split()}
    assert own <= set(WATCH)
    assert not others & {"msgspec", "numpy", "click", "rich"}
