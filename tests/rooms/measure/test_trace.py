"""The frames of a process of its own, looked at from outside, without bpftrace."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeward.infer import markers
from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.measure import bpftrace_run, surroundings, trace
from edgeward.measure.frame_ring import BEGAN, MARKED, NUMBER, TOOK, FrameRing

LOOP = """
import sys, time
from edgeward.infer.markers import Frame
print("ready", flush=True)
limit = time.monotonic() + 30
while time.monotonic() < limit:
    with Frame():
        {work}
"""
PLAIN = bpftrace_run.Missing("bpftrace is not installed", "sudo apt install bpftrace")


@pytest.fixture
def process():
    """Starts a process that runs frames, and ends it."""
    started = []

    def start(work: str) -> int:
        command = [sys.executable, "-c", LOOP.format(work=work)]
        one = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        started.append(one)
        assert one.stdout.readline() == b"ready\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def looked_at(pid: int, seconds: float = 0.6) -> trace.Trace:
    with FrameRing(pid) as ring:
        return trace.trace(ring, trace.Wish(seconds, 95, None), PLAIN, lambda text, done: None)


def test_frames_are_counted_while_asked_and_not_after(process):
    pid = process("time.sleep(0.002)").pid
    with FrameRing(pid) as ring:
        ring.ask(markers.TIMES)
        trace.sleep(0.2)
        frames = ring.take()
    assert len(frames) > 2
    assert (frames[:, TOOK] >= 2_000_000).all()
    assert (np.diff(frames[:, NUMBER]) == 1).all()
    with FrameRing(pid) as ring:
        trace.sleep(0.05)
        ring.take()
        trace.sleep(0.05)
        assert len(ring.take()) == 0


def test_a_burst_looks_at_some_frames_and_then_at_none(process):
    pid = process("time.sleep(0.002)").pid
    with FrameRing(pid) as ring:
        trace.burst(ring, 3)
        frames = ring.take()
        trace.sleep(0.05)
        assert len(ring.take()) == 0
    assert 1 <= len(frames) <= trace.BURST_S / 0.002 + 1
    assert (frames[:, MARKED] > 0).all()


def test_only_frames_that_are_many_are_looked_at_in_bursts():
    def frames(took_us: int, each_us: int) -> np.ndarray:
        found = np.zeros((9, markers.SLOT_WORDS), np.int64)
        found[:, TOOK], found[:, BEGAN] = 1000 * took_us, 1000 * each_us * np.arange(9)
        return found

    slowest, named = trace.Wish(10, 99, None), trace.Wish(10, 99, 20.0)
    assert trace.bursts_of(frames(250, 260), slowest) == 18
    assert trace.bursts_of(frames(250, 8000), slowest) == trace.bursts_of(frames(5000, 5001), slowest) == 1
    assert trace.bursts_of(frames(250, 260), named) == 1


def test_a_frame_inside_another_belongs_to_it():
    before = markers.WORDS[markers.WRITTEN]
    markers.WORDS[markers.ASKED] = markers.TIMES
    try:
        with markers.Frame():
            assert markers.framed(lambda: 5) == 5
        with pytest.raises(ValueError, match="inside"), markers.Frame():
            raise ValueError("inside")
        with markers.Frame():
            pass
    finally:
        markers.WORDS[markers.ASKED] = 0
    assert markers.WORDS[markers.WRITTEN] == before + 3


def test_without_bpftrace_a_process_tells_of_itself_and_what_was_not_seen_is_said(process):
    found = looked_at(process("time.sleep(0.002)").pid)
    assert found.way == "own counters"
    assert found.frames > 10
    assert found.late
    assert found.overhead is not None
    assert any(
        "bpftrace is not installed" in told and mend == "sudo apt install bpftrace" for told, mend in found.unseen
    )


def test_a_process_that_ends_meanwhile_leaves_what_was_seen(process):
    found = looked_at(process("time.sleep(0.002)\n    if limit - time.monotonic() < 29: break").pid, seconds=2)
    assert found.ended == "process ended"
    assert found.frames > 10
    assert found.late


def test_a_process_that_is_gone_is_told():
    gone = subprocess.Popen(["true"])
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has fetched it yet
    with pytest.raises(WrongInput, match="no process"):
        FrameRing(gone.pid)
    gone.wait()
    with pytest.raises(WrongInput, match="no process"):
        FrameRing(gone.pid)


def test_a_process_without_markers_is_told(tmp_path):
    other = subprocess.Popen(["sleep", "30"])
    try:
        with pytest.raises(WrongInput, match="marks no inferences"):
            FrameRing(other.pid)
    finally:
        other.kill()
        other.wait()


def test_a_process_that_runs_no_inference_is_told(process, monkeypatch):
    monkeypatch.setattr(trace, "FIRST_FRAME_S", 0.2)
    with pytest.raises(Unavailable, match="ran no inference"):
        looked_at(process("time.sleep(20)").pid, seconds=0.2)


def test_events_that_this_kernel_lacks_are_left_out_and_named(tmp_path):
    there = ("sched_switch", "sched_wakeup", "mm_vmscan_direct_reclaim_begin", "mm_vmscan_direct_reclaim_end")
    for event in there:
        (tmp_path / ("sched" if event.startswith("sched") else "vmscan") / event).mkdir(parents=True)
    text, absent = bpftrace_run.program("/lib/libc.so.6", tmp_path)
    assert "power:cpu_frequency" in absent
    assert "vmscan:mm_vmscan_memcg_reclaim_begin" in absent
    assert "tracepoint:power" not in text
    assert "memcg_reclaim" not in text
    assert "tracepoint:vmscan:mm_vmscan_direct_reclaim_begin\n/@begin" in text
    assert "uprobe:/lib/libc.so.6:wctob" in text
    assert text.count("{") == text.count("}")


def test_trace_events_that_are_not_mounted_are_told_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/bpftrace"
    program.write_text("#!/bin/sh\necho bpftrace v0.9.4\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    if os.geteuid() != 0:
        pytest.skip("wants root, as bpftrace does")
    found = bpftrace_run.missing(tmp_path)
    assert found is not None
    assert "mount -t tracefs tracefs /sys/kernel/tracing" in found.mend
    (tmp_path / "sys/kernel/tracing/events").mkdir(parents=True)
    found = bpftrace_run.missing(tmp_path)
    assert found is not None
    assert "bpftrace is 0.9; wanted 0.12" in found.why


def test_what_others_did_is_the_difference_of_two_readings(tmp_path):
    def write(cpu_us: int, ticks: int, steal: int) -> surroundings.Reading:
        for name, text in {
            "pressure/cpu": f"some avg10=0.00 avg60=0.00 avg300=0.00 total={cpu_us}\n",
            "sys/kernel/task_delayacct": "1\n",
            "stat": f"cpu  1 2 3 4 5 6 7 {steal} 0 0\n",
            "interrupts": f"      CPU0  CPU1\n 36:  {ticks}  0  PCI-MSI virtio0\n",
            "7/stat": "7 (me) S " + "0 " * 38 + f"{ticks} 0\n", "7/comm": "me\n",
            "8/stat": f"8 (a b) R {'0 ' * 10}{ticks} 0 0\n", "8/comm": "a b\n",
        }.items():  # fmt: skip
            path = tmp_path / "proc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return surroundings.read(7, tmp_path)

    before = write(0, 0, 0)._replace(at_ns=0)
    after = write(500_000, 50, 20)._replace(at_ns=1_000_000_000)
    found = surroundings.between(before, after, 2)
    assert found.pressure == {"cpu": 0.5}
    assert found.busiest == (("a b", 8, 0.5),)
    assert found.disk_wait == 0.5
    assert found.steal == 0.1
    assert found.interrupts_per_s == {"36 PCI-MSI virtio0": 50.0}


def test_a_page_fault_costs_less_than_a_millisecond_and_more_than_nothing():
    assert 0 <= surroundings.fault_ns(200) < 1e6


def test_the_program_ships_as_a_readable_file():
    assert (Path(trace.__file__).parent / "bpftrace/frames.bt").read_text().startswith("// What happened")
