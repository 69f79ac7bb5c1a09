"""A flame graph of a model that runs: perf samples the process, what it tells is folded, and drawn as one SVG."""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from edgeward.kit import process
from edgeward.kit.errors import Failed, Unsupported
from edgeward.measure import sysfs
from edgeward.measure.jobs import Contender
from edgeward.measure.profiling.flame_picture import Stack, drawn
from edgeward.measure.profiling.stacks import folded

_RATE_HZ = 499
"""No divisor of the timers' rates, so that samples do not fall into step with them."""
_LIMIT_S = 180
_READY_S = 120


def check_perf(root: Path = sysfs.ROOT) -> None:
    """Raises Unsupported, with the command that mends it, where perf is missing or forbidden."""
    if shutil.which("perf") is None:
        raise Unsupported(
            "perf is not installed, and a flame graph is taken with it", hint="apt-get install linux-perf"
        )
    with tempfile.TemporaryDirectory(prefix="edgeward-perf-") as folder:
        tried = process.run(["perf", "record", "-q", "-g", "-o", f"{folder}/data", "--", "true"], limit_s=_LIMIT_S)
    if tried.code != 0:
        raise _forbidden(tried.complaint, root)


def _forbidden(complaint: str, root: Path) -> Unsupported:
    level = sysfs.text(root / "proc/sys/kernel/perf_event_paranoid")
    last = " ".join((complaint.splitlines() or ["it gave no reason"])[-1].split())
    if "not found for kernel" in complaint:
        return Unsupported("the perf here belongs to another kernel", hint="apt-get install linux-tools-$(uname -r)")
    if "ermission" in complaint or "not permitted" in complaint or "paranoid" in complaint:
        return Unsupported(
            f"perf may not sample here (kernel.perf_event_paranoid is {level or 'unknown'})",
            hint="sudo sysctl kernel.perf_event_paranoid=1 (in a container: --cap-add PERFMON)",
        )
    return Unsupported(f"perf does not work here: {last}", hint="perf record -g -- true")


def flame_graph(contender: Contender, seconds: float, *, title: str) -> str:
    """An SVG of so many seconds of runs. Raises Unsupported where perf is missing or forbidden, Failed where it gave
    no samples."""
    check_perf()
    stacks = sampled(contender, seconds)
    if not stacks:
        raise Failed("perf took no samples of the model", hint="a longer --seconds")
    return drawn(stacks, title)


def sampled(contender: Contender, seconds: float) -> Counter[Stack]:
    """Samples by stack, the outermost function first."""
    command = [
        sys.executable, "-P", "-m", "edgeward.measure.profiling.running", contender.file, contender.runtime,
        str(contender.threads), contender.feeds,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgeward-perf-") as folder:
        running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            said = running.stdout.readline().decode().strip() if running.stdout else ""
            if said != "ready":
                raise Failed(said or "the process that runs the model died")
            return _recorded(running.pid, seconds, Path(folder))
        finally:
            running.kill()
            running.communicate()


def _recorded(pid: int, seconds: float, folder: Path) -> Counter[Stack]:
    data = str(folder / "data")
    # The frames are found by the unwind tables that every library has: most are built without frame pointers.
    record = ["perf", "record", "-q", "-F", str(_RATE_HZ), "--call-graph", "dwarf,16384", "-p", str(pid), "-o", data]
    done = process.run([*record, "--", "sleep", f"{seconds:g}"], limit_s=_LIMIT_S + seconds)
    if done.code != 0:
        raise _forbidden(done.complaint, sysfs.ROOT)
    script = ["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym,dso"]
    told = process.run(script, limit_s=_LIMIT_S)
    if told.code != 0:
        raise Failed(f"perf script failed: {told.complaint.splitlines()[-1:] or ''}")
    return folded(told.output.decode(errors="replace"))
