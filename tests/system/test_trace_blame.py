"""`edgeward trace` with bpftrace on this kernel: an inference that is disturbed on purpose, and who is blamed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trace_study import CASES, is_right, study

from edgeward.infer.markers import MARKS
from edgeward.measure import bpftrace_run
from edgeward.measure.frame_ring import FrameRing

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]
_RIGHT_RUNS, _MOST_RUNS = 2, 7


@pytest.fixture(scope="module", autouse=True)
def _bpftrace():
    """bpftrace that starts here; the trace events are mounted for it."""
    if bpftrace_run.tracefs() is None and os.geteuid() == 0:
        subprocess.run(bpftrace_run.MOUNT_TRACEFS.split(), check=False)
    found = bpftrace_run.missing()
    if found is not None:
        pytest.skip(f"{found.why}; try: {found.mend}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("trace")


@pytest.mark.parametrize("name", CASES)
def test_the_blame_names_the_disturber(name, folder):
    """Twice, in as many runs as that takes where other work on the machine really had the CPU meanwhile."""
    told = list[tuple[str, str]]()
    right = 0
    for seed in range(_MOST_RUNS):
        found = study(CASES[name], seed, folder)
        assert found.way == "bpftrace", found.unseen
        told.append((found.blame.cause, found.blame.because))
        right += is_right(CASES[name], found)
        if right == _RIGHT_RUNS:
            return
    pytest.fail(f"right in {right} of {_MOST_RUNS}: {told}")


def test_ctrl_c_shows_what_was_seen_and_leaves_no_bpftrace(tmp_path):
    loop = "import time\nfrom edgeward.infer.markers import Frame\nprint('ready', flush=True)\n"
    loop += "end = time.monotonic() + 60\nwhile time.monotonic() < end:\n with Frame(): time.sleep(0.002)\n"
    process = subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        command = [sys.executable, "-m", "edgeward", "trace", str(process.pid), "--seconds", "50", "--json"]
        tracer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ring = FrameRing(process.pid)
        _wait_for(lambda: ring.asked() & MARKS)
        assert _tracers_of(process.pid)
        time.sleep(0.5)
        tracer.send_signal(signal.SIGINT)
        output, complaint = tracer.communicate(timeout=40)
        assert tracer.returncode == 130, complaint
        found = json.loads(output)
        assert found["ended"] == "stopped"
        assert found["frames"] > 10
        assert not _tracers_of(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _tracers_of(pid: int) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0] == "bpftrace" and str(pid) in words:
            found.append(folder.name)
    return found


def _wait_for(condition) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)
