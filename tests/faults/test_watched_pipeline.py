"""A live pipeline under a service manager, and under a clock that jumps."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fragile_bundle
import numpy as np
import pytest

from edgeward import bundle

LIMIT_S = 1.0


@pytest.fixture
def key(tmp_path: Path) -> bundle.SigningKey:
    return bundle.create_key(tmp_path / "signing.key")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        yield listener


def start(folder: Path, key: bundle.SigningKey, samples: list[float], *words: str, **environment: str) -> Any:
    """`edgeward run` over samples that come in a circle, a hundred a second."""
    np.savez(folder / "samples.npz", x=np.float32([[first, 1] for first in samples]))
    made = fragile_bundle.make(folder / "bundle", key)
    source = f"replay:{folder / 'samples.npz'}?rate_hz=100&repeat=true"
    public = bundle.public_path_of(key.path)
    paths = [str(fragile_bundle.FRAGILE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "edgeward", "run", made, "-i", source, "--key", public, *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )  # fmt: skip


def hear(manager: socket.socket, wanted: str) -> str:
    """The first message with `wanted` in it."""
    while wanted not in (said := manager.recv(4096).decode()):
        pass
    return said


def watched(folder: Path) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": f"{LIMIT_S * 1e6:.0f}"}


def test_a_pipeline_is_fed_while_it_answers_and_says_when_it_stops(
    tmp_path: Path, key: bundle.SigningKey, manager: socket.socket
) -> None:
    process = start(tmp_path, key, [1, 2, 3], **watched(tmp_path))
    assert hear(manager, "READY=1").startswith("READY=1\nSTATUS=runs fragile: ")
    for _ in range(3):
        hear(manager, "WATCHDOG=1")
    process.send_signal(signal.SIGTERM)
    hear(manager, "STOPPING=1")
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_pipeline_whose_model_hangs_is_not_fed(
    tmp_path: Path, key: bundle.SigningKey, manager: socket.socket
) -> None:
    process = start(tmp_path, key, [*range(10, 200), fragile_bundle.HANG], **watched(tmp_path))
    hear(manager, "WATCHDOG=1")
    manager.settimeout(3 * LIMIT_S)
    with pytest.raises(TimeoutError):
        hear(manager, "no such message")
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is missing: apt-get install faketime")
def test_a_clock_that_jumps_stops_nothing_and_loses_nothing(tmp_path: Path, key: bundle.SigningKey) -> None:
    """The wall clock follows a file: back by a day, then forward by a year, as at a boot without a battery."""
    clock, lines, table = tmp_path / "clock", tmp_path / "answers.jsonl", tmp_path / "answers.db"
    clock.write_text("+0\n")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    faked = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    process = start(tmp_path, key, [1, 2, 3], "--sink", str(lines), "--sink", str(table), **faked)
    moments: list[str] = []
    for offset in ("-1d", "+365d", "+0"):
        count = stored(lines, more_than=len(moments))
        clock.write_text(f"{offset}\n")
        moments = stored(lines, more_than=len(count) + 50)
        assert moments[: len(count)] == count
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    kept = [json.loads(line)["at"] for line in lines.read_text().splitlines()]
    assert kept[: len(moments)] == moments
    dates = [datetime.fromisoformat(moment) for moment in kept]
    assert max(dates) - min(dates) > timedelta(days=360), "the clock did not jump"
    with closing(sqlite3.connect(table)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = [at for (at,) in database.execute("SELECT at FROM results ORDER BY number")]
    assert len(rows) == len(kept)
    ages = [json.loads(line)["age_ms"] for line in lines.read_text().splitlines()]
    assert max(ages) < 24 * 3600 * 1e3, "an age follows the wall clock"
    assert min(ages) >= 0


def stored(path: Path, *, more_than: int) -> list[str]:
    """The moments of the whole lines of `path`, once there are more than so many."""
    while True:
        text = path.read_text() if path.exists() else ""
        moments = [json.loads(line)["at"] for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if len(moments) > more_than:
            return moments
        time.sleep(0.05)
