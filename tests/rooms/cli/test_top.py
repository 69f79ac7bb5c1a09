"""The screen of `edgeward top`: what is on it, driven by keys, at the sizes that people have."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from edgeward.cli import columns, top_text
from edgeward.cli.columns import Column
from edgeward.kit.errors import EdgewardError, Unavailable
from edgeward.records.watch import Frame, MachineSeen, ModelSeen, ServiceSeen, ThreadSeen, Waits

pytest.importorskip("textual", reason="the live view needs textual: pip install 'edgeward[top]'")

from edgeward.cli.top_view import Top

MACHINE = MachineSeen(
    hostname="pi5", cpu_count=4, memory_bytes=4_000_000_000, memory_used_bytes=1_200_000_000, cpu_busy=0.31,
    cpus=(0.1, 1.0, 0.0, 0.14), load=1.25, waits=Waits(cpu=0.02, memory=0.0, io=0.0), frequency_mhz=2400,
    governor="schedutil", temperature_c=57.2, power_mw=3250.0,
)  # fmt: skip
MODEL = ModelSeen(
    name="digits", version="1.0", runtime="litert", threads=2, placement="CPU", requests=5120, errors=3, dropped=2,
    in_flight=1, queued=4, rate_per_s=812.4, errors_per_s=0.0, dropped_per_s=0.0, p50_ms=0.231, p95_ms=0.4, p99_ms=0.61,
)  # fmt: skip
THREADS = tuple(ThreadSeen(id=9 + at, name=f"t{at}", cpu=max(0.0, 0.9 - at / 10), core=at % 4) for at in range(12))
SERVICE = ServiceSeen(
    url="http://127.0.0.1:8000", state="ready", pid=1234, version="1", uptime_s=185.0, cpu=0.98,
    memory_bytes=88_000_000, memory_kind="PSS", threads=THREADS, models=(MODEL,),
)  # fmt: skip
FRAME = Frame(at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), interval_s=1.0, machine=MACHINE, services=(SERVICE,))


class Recorded:
    """Frames that come at once; then it waits to be closed, or ends as a lost machine does."""

    def __init__(self, *frames: Frame, problem: EdgewardError | None = None) -> None:
        self._frames, self._problem = frames, problem
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        yield from self._frames
        if self._problem is not None:
            raise self._problem
        self._closed.wait(60)

    def close(self) -> None:
        self._closed.set()


def text_of(frame: Frame, width: int = 80, **more: bool) -> str:
    return "\n".join(line.text for line in top_text.screen(frame, width, **more))


def _shown(app: Top) -> Iterator[str]:
    """What the terminal was told to show, line by line."""
    for strip in app.screen._compositor.render_strips():
        yield "".join(segment.text for segment in strip)


def driven(*keys: str, frames: Recorded | None = None, size: tuple[int, int] = (80, 24)) -> tuple[str, Top]:
    """What stands on the screen after these keys."""

    async def drive() -> tuple[str, Top]:
        source = frames or Recorded(FRAME)
        app = Top(source, None, 1.0, None)
        async with app.run_test(size=size) as pilot:
            while app._frame is None and app.is_running and app.problem is None:
                await pilot.pause(0.01)
            for key in keys:
                await pilot.press(key)
            await pilot.pause()
            shown = "\n".join(_shown(app)) if app.is_running else ""
            source.close()
        return shown, app

    return asyncio.run(drive())


def test_a_screen_of_80_columns_tells_all_that_matters() -> None:
    told = text_of(FRAME)
    for words in ("CPU 31 %", "of 4 CPUs", "schedutil governor", "2.40 GHz", "1.2 GB of 4.0 GB", "57 °C", "3.25 W",
                  "http://127.0.0.1:8000  ready", "up 3 min 5 s", "pid 1234", "CPU 98 %", "88.0 MB PSS",
                  "digits 1.0", "litert ×2", "812", "0.231 ms", "0.61 ms"):  # fmt: skip
        assert words in told
    assert "90 %  t0 on CPU 0" in told
    assert "6 threads less busy or idle" in told
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize("width", [20, 40, 79, 140, 400])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    long = replace(
        SERVICE, models=(replace(MODEL, name="a-very-long-name-of-a-model" * 3, placement="12 of 14 on NPU"),)
    )
    told = top_text.screen(replace(FRAME, services=(long,)), width)
    assert max(len(line.text) for line in told) <= width


def test_what_the_machine_does_not_tell_is_not_on_the_screen() -> None:
    bare = MachineSeen(hostname="x", cpu_count=1, memory_bytes=1, memory_used_bytes=1)
    told = text_of(replace(FRAME, machine=bare), 140)
    assert "°C" not in told
    assert " W" not in told
    assert "governor" not in told


def test_a_governor_s_decision_has_a_column_only_where_there_is_one() -> None:
    decided = replace(SERVICE, models=(replace(MODEL, decision="int8, 2 threads: hot"),))
    assert "governor" not in text_of(FRAME, 140).split("http")[1]
    assert "int8, 2 threads: hot" in text_of(replace(FRAME, services=(decided,)), 140)


def test_a_machine_without_a_service_says_how_to_start_one() -> None:
    told = text_of(replace(FRAME, services=()))
    assert "No edgeward service is found here." in told
    assert "edgeward serve" in told


@pytest.mark.parametrize(
    ("state", "words"),
    [("died", "died: it was killed or crashed, noticed 1 min 5 s ago"), ("stopped", "stopped, seen 1 min 5 s ago")],
)
def test_a_service_that_left_is_told_of(state: str, words: str) -> None:
    gone = ServiceSeen(url="http://127.0.0.1:8000", state=state, gone_for_s=65.0)  # type: ignore[arg-type]
    assert words in text_of(replace(FRAME, services=(gone,)))


def test_a_silent_service_drops_and_throttling_are_marked() -> None:
    silent = ServiceSeen(url="http://127.0.0.1:1", state="silent", reason="it does not answer", pid=4)
    dropping = replace(SERVICE, models=(replace(MODEL, dropped_per_s=3.0),))
    hot = replace(MACHINE, throttled=True)
    told = top_text.screen(replace(FRAME, machine=hot, services=(silent, dropping)), 80)
    marked = [line.text for line in told if line.style == "alarm"]
    assert ["throttled" in marked[0], "does not answer" in marked[1], "digits" in marked[2]] == [True] * 3
    assert len(marked) == 3


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert top_text.plain(text_of(FRAME)).isascii()
    assert "?" not in top_text.plain(text_of(FRAME))


@pytest.mark.parametrize(
    ("encoding", "environment", "unicode"),
    [
        ("utf-8", {"LANG": "de_DE.UTF-8", "TERM": "xterm"}, True),
        ("utf-8", {"LANG": "de_DE.UTF-8", "TERM": "vt100"}, False),
        ("utf-8", {"LANG": "C", "TERM": "linux"}, False),
        ("utf-8", {"TERM": "linux"}, False),
        ("utf-8", {"LANG": "C", "LC_ALL": "C.utf8", "TERM": "linux"}, True),
        ("iso8859-1", {"LANG": "de_DE.UTF-8"}, False),
        (None, {}, False),
    ],
)
def test_unicode_is_for_terminals_that_show_it(
    encoding: str | None, environment: dict[str, str], unicode: bool
) -> None:
    assert top_text.speaks_unicode(encoding, environment) is unicode


def test_columns_give_way_in_their_order() -> None:
    chosen = (Column("name", least=4), Column("n", right=True), Column("extra", spare=1), Column("more", spare=2))
    rows = [("abcdefghij", "1", "xxxxx", "yyyy")]
    assert columns.lines(chosen, rows, 40)[1] == "abcdefghij  1  xxxxx  yyyy"
    assert columns.lines(chosen, rows, 22)[1] == "abcde…  1  xxxxx  yyyy"
    assert columns.lines(chosen, rows, 15)[1] == "abcd…  1  xxxxx"
    assert columns.lines(chosen, rows, 7)[1] == "abc…  1"


def test_the_live_view_shows_the_frame_between_a_title_and_the_keys() -> None:
    shown, _ = driven()
    assert "edgeward top" in shown
    assert "pi5" in shown
    assert "03:04:05 UTC" in shown
    assert "digits 1.0" in shown
    assert "q quit" in shown


def test_all_threads_are_a_key_away() -> None:
    assert "t11 on CPU 3" not in driven()[0]
    assert "t11 on CPU 3" in driven("t")[0]


def test_help_explains_the_columns_and_any_key_closes_it() -> None:
    assert "told to come back later" in driven("question_mark")[0]
    assert "digits 1.0" in driven("question_mark", "x")[0]


def test_a_held_picture_says_so() -> None:
    assert "held" in driven("space")[0]


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_it_ends_at_a_key(key: str) -> None:
    shown, app = driven(key)
    assert shown == ""
    assert app.problem is None


def test_a_small_and_a_large_terminal_are_filled() -> None:
    assert "requests" not in driven(size=(80, 24))[0]
    assert "5120" in driven(size=(140, 40))[0]


def test_a_machine_that_is_lost_ends_the_view_with_its_sentence() -> None:
    lost = Unavailable("pi@pi5 cannot be reached: the connection ended")
    _, app = driven(frames=Recorded(FRAME, problem=lost))
    assert app.problem is lost


def top(*options: str, blocked: str = "") -> "subprocess.CompletedProcess[str]":
    code = f"import sys\nsys.modules.update({{name: None for name in {blocked.split()}}})\n"
    code += "from edgeward.cli.main import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, "top", *options], capture_output=True, text=True)


def test_json_is_a_line_per_interval_and_a_table_needs_no_textual() -> None:
    done = top("--json", "--count", "2", "--interval", "100ms", blocked="textual rich")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    assert all(line["machine"]["cpu_count"] >= 1 for line in lines)
    table = top("--once", "--interval", "100ms", "--url", "http://127.0.0.1:1", blocked="textual rich")
    assert table.returncode == 0
    assert "does not answer" in table.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--interval", "1d"], "is no time between"),
        (["--interval", "0"], "is no time between"),
        (["--url", "127.0.0.1:8000"], "is no address of a service"),
        (["--url", "http://[::1"], "is no address of a service"),
        (["--count", "0"], "0"),
        (["-oProxyCommand=id"], "No such option"),
        (["a b"], "names no machine"),
    ],
)
def test_bad_input_is_told(options: list[str], words: str) -> None:
    done = top(*options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
