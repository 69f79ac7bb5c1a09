"""Why some inferences were late. Rules only: the facts of frames come in, causes with their share go out."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec.structs import replace

from edgeward.records.base import Record

Cause = Literal["cpu", "memory", "disk", "interrupts", "frequency", "other-threads", "unseen"]

_REALLY_LATE = 0.2
"""A frame that took less than this share more than usual is no late one: caches and the hypervisor do as much."""
_CLEAR = 0.5
"""The share of really late frames that a cause must lead in before it is named."""
_ENOUGH = 0.25
"""The share of the late frames that must be really late before anything is named: the slowest few of a hundred are
there always, and where hardly one of them waited, that one explains nothing of the others."""
_REAL_TIME_BELOW = 100
"""The kernel's priorities 0 to 99 are those of real-time threads."""


class Runner(Record):
    """A thread that had the CPU while a frame waited for it; `priority` as the kernel counts, None where unknown."""

    name: str
    pid: int
    priority: int | None
    ns: int


class Frame(Record):
    """What happened to one inference, in nanoseconds and counts. What could not be seen is 0.

    `waited` in the run queue, `preempted` times; `disk` sleeping for a device, `fault_disk` the same inside a page
    fault; `slept` for something else, of which `helpers` is what other threads of the process waited for a CPU.
    """

    number: int
    took_ns: int
    waited_ns: int = 0
    preempted: int = 0
    blocked: int = 0
    disk_ns: int = 0
    fault_disk_ns: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    reclaim_ns: int = 0
    irq_ns: int = 0
    irq: int = 0
    softirq_ns: int = 0
    softirq: int = 0
    slept_ns: int = 0
    helpers_ns: int = 0
    frequency_khz: int = 0
    runner: Runner | None = None


class Around(Record):
    """What else is known of the machine meanwhile. `fault_ns` is what a page fault costs here without reading;
    `io_pressure` the share of the time in which somebody waited for a disk, None where the kernel does not say;
    `sees_inside` is False where nothing but a process's own counters was to be had."""

    fault_ns: float = 700.0
    io_pressure: float | None = None
    sees_inside: bool = True


class Share(Record):
    """One cause: the share of late frames that it leads in, and the milliseconds it cost all of them."""

    cause: Cause
    frames: int
    frames_share: float
    lost_ms: float


class Blame(Record):
    """`cause` is None where nothing stands out. `confidence` is the share of the lost time that the cause explains;
    `because` names who had the CPU, where that is known."""

    cause: Cause | None
    confidence: float
    because: Runner | None
    usual_ms: float
    late_ms: float
    shares: tuple[Share, ...]


def losses(frame: Frame, usual: Frame, around: Around) -> dict[Cause, float]:
    """Nanoseconds that each cause cost this frame beyond what is usual; what no cause explains is "unseen"."""
    slept = _more(frame.slept_ns, usual.slept_ns)
    helped = min(slept, _more(frame.helpers_ns, usual.helpers_ns))
    minor = _more(frame.minor_faults, usual.minor_faults) * around.fault_ns
    found: dict[Cause, float] = {
        "cpu": _more(frame.waited_ns, usual.waited_ns) + helped,
        "memory": _more(frame.fault_disk_ns, usual.fault_disk_ns) + _more(frame.reclaim_ns, usual.reclaim_ns) + minor,
        "disk": _more(frame.disk_ns, usual.disk_ns),
        "interrupts": _more(frame.irq_ns + frame.softirq_ns, usual.irq_ns + usual.softirq_ns),
        "frequency": _slower_clock(frame, usual),
        "other-threads": slept - helped,
    }
    rest = max(0.0, frame.took_ns - usual.took_ns - sum(found.values()))
    found["unseen"] = 0.0
    # Where a fast disk has the pages at once, bringing them in is the kernel's own work, which no sleep shows.
    brought_in = frame.major_faults > usual.major_faults + _SOME_FAULTS
    found["memory" if brought_in else "unseen" if around.sees_inside else _guess(frame, usual, around)] += rest
    return found


def usual_of(frames: Sequence[Frame]) -> Frame:
    """The median of each fact."""

    def middle(name: str) -> int:
        return int(median(getattr(frame, name) for frame in frames))

    return replace(Frame(number=0, took_ns=0), **{name: middle(name) for name in _NUMBERS})


def blame(late: Sequence[Frame], usual: Frame, around: Around) -> Blame:
    """What most of those that are really late have in common, if anything; each is judged by its largest loss."""
    lost = [losses(frame, usual, around) for frame in late]
    leads: Counter[Cause] = Counter()
    for frame, each in zip(late, lost, strict=True):
        if frame.took_ns > usual.took_ns * (1 + _REALLY_LATE):
            leads[max(each, key=lambda cause: each[cause])] += 1
    totals = {cause: sum(each[cause] for each in lost) for cause in _CAUSES}
    shares = tuple(
        Share(cause=cause, frames=leads[cause], frames_share=leads[cause] / len(late), lost_ms=totals[cause] / 1e6)
        for cause in sorted(_CAUSES, key=lambda one: (-leads[one], -totals[one]))
        if leads[cause] or totals[cause] > 0
    )
    really = sum(leads.values())
    wanted = max(1.0, _CLEAR * really) if really >= _ENOUGH * len(late) else math.inf
    cause = next((one.cause for one in shares if one.frames >= wanted and one.cause != "unseen"), None)
    return Blame(
        cause=cause,
        confidence=totals[cause] / max(1.0, sum(totals.values())) if cause else 0.0,
        because=_main_runner(late) if cause == "cpu" else None,
        usual_ms=usual.took_ns / 1e6,
        late_ms=median(frame.took_ns for frame in late) / 1e6 if late else 0.0,
        shares=shares,
    )


def is_real_time(runner: Runner) -> bool:
    return runner.priority is not None and runner.priority < _REAL_TIME_BELOW


_SOME_FAULTS = 8
"""Pages that had to be fetched, beyond the usual: each takes the kernel tens of microseconds, asleep or not."""
_CAUSES: tuple[Cause, ...] = ("cpu", "memory", "disk", "interrupts", "frequency", "other-threads", "unseen")
_NUMBERS = tuple(name for name in Frame.__struct_fields__ if name not in ("number", "runner", "irq", "softirq"))


def _more(here: float, usually: float) -> float:
    return max(0.0, here - usually)


def _slower_clock(frame: Frame, usual: Frame) -> float:
    """What a lower clock than usual cost the time on the CPU."""
    if not frame.frequency_khz or frame.frequency_khz >= usual.frequency_khz:
        return 0.0
    computing = frame.took_ns - frame.waited_ns - frame.disk_ns - frame.fault_disk_ns - frame.slept_ns
    return max(0.0, computing * (1 - frame.frequency_khz / usual.frequency_khz))


def _guess(frame: Frame, usual: Frame, around: Around) -> Cause:
    """Where time went of which nothing but counters was seen: sleeping inside a major fault, or for a disk."""
    if frame.major_faults > usual.major_faults:
        return "memory"
    sleeps = frame.blocked > usual.blocked
    return "disk" if sleeps and (around.io_pressure or 0) > 0.05 else "other-threads" if sleeps else "unseen"


def _main_runner(late: Sequence[Frame]) -> Runner | None:
    """Who had the CPU longest, over all of these frames."""
    total: Counter[str] = Counter()
    last: dict[str, Runner] = {}
    for frame in late:
        if frame.runner is not None and frame.runner.ns:
            total[frame.runner.name] += frame.runner.ns
            last[frame.runner.name] = frame.runner
    if not total:
        return None
    name, ns = total.most_common(1)[0]
    return Runner(name=name, pid=last[name].pid, priority=last[name].priority, ns=ns)
