"""Sinks that write files: whole lines and rows, in bounds, on a disk that is full, after a kill."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from parts_around import until
from pipelines import memory, recording, running

from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.serve import sinks


def sink(use, **options):
    member = sinks.load(use)
    return member.open(msgspec.convert(options, member.options), "door")


@pytest.fixture
def results(tmp_path):
    kept = memory()
    running(str(recording(tmp_path, 100)), kept).run()
    return list(kept.results)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs root to mount a small tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_file_of_lines_is_rotated_and_never_takes_more_than_its_bounds(results, tmp_path):
    path = tmp_path / "answers.jsonl"
    outlet = sink("jsonl", path=str(path), max_bytes=2000, keep=2)
    for result in results:
        outlet.write(result)
    outlet.close()
    files = sorted(tmp_path.glob("answers.jsonl*"))
    assert [file.name for file in files] == ["answers.jsonl", "answers.jsonl.1", "answers.jsonl.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    lines = [json.loads(line) for file in reversed(files) for line in file.read_text().splitlines()]
    assert [line["source"] for line in lines] == [result.source for result in results[-len(lines) :]]


def test_a_line_that_was_cut_by_a_power_cut_is_left_on_its_own(results, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(results[0].line + b'{"source": "half')
    outlet = sink("jsonl", path=str(path))
    outlet.write(results[1])
    outlet.close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines == [results[0].line, b'{"source": "half\n', results[1].line]


def write_all(outlet, results):
    """How many were taken, and what was said of the others."""
    told = []
    for result in results:
        try:
            outlet.write(result)
        except EdgewardError as error:
            told.append(error.message)
        except OSError as error:
            told.append(str(error))
    return len(results) - len(told), told


def test_a_full_disk_keeps_every_line_that_was_taken_and_goes_on_when_there_is_room(results, small_disk):
    path, other = small_disk / "answers.jsonl", small_disk / "other"
    other.write_bytes(bytes(392_000))
    outlet = sink("jsonl", path=str(path))
    taken, told = write_all(outlet, results)
    assert 0 < taken < len(results)
    assert "No space left on device" in told[0]
    assert len(path.read_bytes().splitlines()) == taken
    other.unlink()
    outlet.write(results[-1])
    outlet.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == taken + 1
    assert lines[-1]["source"] == results[-1].source


def test_a_full_disk_keeps_every_row_and_goes_on_when_there_is_room(results, small_disk):
    path, other = small_disk / "answers.db", small_disk / "other"
    outlet = sink("sqlite", path=str(path))
    outlet.write(results[0])
    other.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 12288))
    taken, told = write_all(outlet, results[1:])
    assert told
    assert "full" in told[0]
    other.unlink()
    outlet.write(results[-1])
    outlet.close()
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT source FROM results ORDER BY number").fetchall()
    assert len(rows) == 2 + taken
    assert rows[0][0] == results[0].source
    assert rows[-1][0] == results[-1].source


def test_a_table_keeps_the_newest_rows_within_its_bounds(results, tmp_path):
    path = tmp_path / "answers.db"
    outlet = sink("sqlite", path=str(path), most=20)
    for result in results:
        outlet.write(result)
    outlet.close()
    rows = sqlite3.connect(path).execute("SELECT pipeline, source, total_ms, document FROM results").fetchall()
    assert 18 <= len(rows) <= 20
    assert rows[-1][0] == "door"
    assert json.loads(rows[-1][3])["source"] == rows[-1][1] == results[-1].source


def test_what_is_no_table_is_one_sentence(tmp_path):
    (tmp_path / "text.db").write_text("no table at all" * 100)
    with pytest.raises(WrongInput, match="no SQLite file can be opened or made there"):
        sink("sqlite", path=str(tmp_path / "text.db"))
    with pytest.raises(WrongInput, match="no SQLite file can be opened or made there"):
        sink("sqlite", path=str(tmp_path / "nowhere" / "answers.db"))


WRITES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipelines import running
from edgeward.serve.parts import sink_of
parts = [sink_of(one) for one in ("answers.jsonl", "answers.db")]
outlets = [part.member.open(part.options, "door") for part in parts]
seen = lambda result: print(result.number, flush=True)
source = {"use": "replay", "path": "recorded.npz", "rate_hz": 1000.0, "repeat": True, "each": True}
running(source, *outlets, seen=seen).run()
"""


def test_a_kill_loses_nothing_that_was_stored_before(tmp_path):
    recording(tmp_path, 10)
    command = [sys.executable, "-c", WRITES, str(Path(__file__).parent)]
    for _ in range(2):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            for _, line in zip(range(200), process.stdout, strict=False):
                assert int(line) >= 0
            process.send_signal(signal.SIGKILL)
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    whole = sum(1 for line in lines if line.endswith(b"}") and json.loads(line))
    assert len(lines) - whole <= 2, "at most the line under way at each kill"
    database = sqlite3.connect(tmp_path / "answers.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert whole > 200
    until(lambda: database.execute("SELECT count(*) FROM results").fetchone()[0] > 200, "the rows of both runs")
