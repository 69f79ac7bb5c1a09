"""Watches the inferences of a process for a while, traced and untraced in turn, and says what made some late."""

import math
import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer import markers
from edgeward.kit.errors import Failed, Unavailable, Unsupported
from edgeward.measure import bpftrace_run, surroundings
from edgeward.measure.blame import Around, Blame, Frame, Runner, blame, usual_of
from edgeward.measure.frame_cost import Overhead, marks_ns, overhead, record_ns
from edgeward.measure.frame_ring import BEGAN, DELAY, INVOLUNTARY, MAJOR, MINOR, NUMBER, TOOK, VOLUNTARY, FrameRing
from edgeward.records.base import Record

ROUNDS = 2
"""Untraced, traced, untraced, traced, untraced."""
_UNTRACED_SHARE = 0.2
FIRST_FRAME_S = 10.0
_POLL_S = 0.05
_ORDINARY_FRAMES = 150
"""About so many frames that are not late are looked at in each round, for what is usual."""
_LOOK_NS, _LOOK_SHARE = 45_000, 0.01
"""What it takes to look at a frame in the kernel on a busy machine (two traps, a record, and what these leave of the
caches), and the share of the time that this may take: where frames are many, they are looked at in bursts."""
BURST_S = 0.02
_NO_FRAMES = np.zeros((0, markers.SLOT_WORDS), np.int64)


class Trace(Record):
    """One look at a process. `late` are the facts of late frames, `missed` of how many nothing is known but that they
    were late. `unseen` says what could not be seen here, and the command that mends it where there is one."""

    pid: int
    way: Literal["bpftrace", "own counters"]
    seconds: float
    frames: int
    late_from_ms: float
    late: tuple[Frame, ...]
    missed: int
    lost: int
    blame: Blame
    overhead: Overhead | None
    disk_bytes: dict[str, int]
    pressure: dict[str, float]
    interrupts_per_s: dict[str, float]
    busiest: tuple[tuple[str, int, float], ...]
    disk_wait: float | None
    steal: float
    unseen: tuple[tuple[str, str | None], ...]
    ended: Literal["in time", "process ended", "stopped"]
    runner_command: str | None


class Wish(NamedTuple):
    """What is asked for: how long, and what counts as late (`late_ms`, or else the slowest beyond a percentile)."""

    seconds: float
    percentile: float
    late_ms: float | None
    rounds: int = ROUNDS


class _Look:
    """What was gathered so far."""

    def __init__(self) -> None:
        self.traced: list[NDArray[np.int64]] = []
        self.untraced: list[NDArray[np.int64]] = []
        self.seen: list[Frame] = []
        self.every = 0
        self.ordinary: set[int] = set()
        self.disk_bytes: dict[str, int] = {}
        self.absent: tuple[str, ...] = ()
        self.ended: Literal["in time", "process ended", "stopped"] = "in time"

    def add(self, seen: bpftrace_run.Seen, every: int, absent: tuple[str, ...]) -> None:
        self.seen += seen.frames
        self.ordinary |= {frame.number for frame in seen.frames if frame.number % every == 0}
        self.absent = absent
        for name, count in seen.disk_bytes.items():
            self.disk_bytes[name] = self.disk_bytes.get(name, 0) + count

    def usual(self) -> Frame:
        """Of the frames that were picked without regard to their duration, the quicker half."""
        picked = [frame for frame in self.seen if frame.number in self.ordinary] or self.seen
        quick = sorted(picked, key=lambda frame: frame.took_ns)[: max(1, len(picked) // 2)]
        return usual_of(quick) if quick else Frame(number=0, took_ns=0)


def trace(
    ring: FrameRing, wish: Wish, missing: bpftrace_run.Missing | None, tell: Callable[[str, float], None]
) -> Trace:
    """Why the late frames of this process were late. Ctrl-C ends it early, with what was seen until then.

    Where bpftrace is `missing`, the process's own counters serve. Raises Unavailable where it runs no inference.
    """
    look = _Look()
    before, began = surroundings.read(ring.pid), monotonic()
    try:
        if missing is None:
            missing = _watch(ring, wish, look, tell)
        else:
            _watch_itself(ring, wish, look, tell)
    except KeyboardInterrupt:
        look.ended = "stopped"
    finally:
        ring.ask(0)
    took = monotonic() - began
    around = surroundings.between(before, surroundings.read(ring.pid), os.cpu_count() or 1)
    return _told(ring, wish, look, missing, took, around)


def _watch(ring: FrameRing, wish: Wish, look: _Look, tell: Callable[[str, float], None]) -> bpftrace_run.Missing | None:
    """With bpftrace; where that does not start, with the process's own counters, and why."""
    untraced_s = wish.seconds * _UNTRACED_SHARE / (wish.rounds + 1)
    tell("untraced", 0)
    _first_frames(ring, look, untraced_s)
    for number in range(wish.rounds):
        if look.ended != "in time":
            break
        tell("traced", (number + 0.2) / wish.rounds)
        try:
            _watch_once(ring, wish, look)
        except Unsupported as error:
            _watch_itself(ring, wish, look, tell)
            return bpftrace_run.Missing(error.message, "bpftrace -e 'BEGIN { exit() }'")
        if look.ended == "in time":
            tell("untraced", (number + 1) / wish.rounds)
            ring.ask(markers.TIMES)
            _gather(ring, look, look.untraced, untraced_s)
    return None


def _watch_once(ring: FrameRing, wish: Wish, look: _Look) -> None:
    """One round of bpftrace."""
    frames = np.concatenate([*look.untraced, *look.traced])
    times = frames[:, TOOK]
    look.every = look.every or bursts_of(frames, wish)
    every = ordinary_every(times, wish, look.every)
    run = bpftrace_run.Bpftrace(ring.pid, late_ns=print_from_ns(times, wish), every=every)
    try:
        with run:
            ring.take()
            ring.ask(markers.TIMES | markers.MARKS)
            _gather(ring, look, look.traced, _traced_s(wish), bursts_of=look.every)
    finally:
        ring.ask(markers.TIMES)
        look.add(run.stop(), every, run.absent)


def _watch_itself(ring: FrameRing, wish: Wish, look: _Look, tell: Callable[[str, float], None]) -> None:
    """With what a process may know of itself, every frame."""
    part = wish.seconds / (2 * wish.rounds + 1)
    tell("untraced", 0)
    _first_frames(ring, look, part)
    for number in range(wish.rounds):
        tell("own counters", (number + 0.3) / wish.rounds)
        if look.ended == "in time":
            ring.ask(markers.TIMES | markers.FACTS)
            _gather(ring, look, look.traced, part * 1.5)
            ring.ask(markers.TIMES)
            _gather(ring, look, look.untraced, part / 2)
    look.seen = [_own_frame(row) for row in np.concatenate([_NO_FRAMES, *look.traced])]
    look.ordinary = {frame.number for frame in look.seen}


def _first_frames(ring: FrameRing, look: _Look, seconds: float) -> None:
    """Untraced frames, and at least one. Raises Unavailable where none comes."""
    ring.ask(markers.TIMES)
    _gather(ring, look, look.untraced, seconds)
    limit = monotonic() + FIRST_FRAME_S
    while not sum(map(len, look.untraced)):
        if look.ended == "process ended":
            raise Failed(f"process {ring.pid} ended before it ran an inference")
        if monotonic() > limit:
            told = f"process {ring.pid} ran no inference for {FIRST_FRAME_S:g} s"
            raise Unavailable(told, hint="send it requests meanwhile")
        _gather(ring, look, look.untraced, _POLL_S)


def _gather(ring: FrameRing, look: _Look, into: list[NDArray[np.int64]], seconds: float, bursts_of: int = 1) -> None:
    """Adds the frames of one slice of time, which ends early with the process or with Ctrl-C."""
    limit, taken = monotonic() + seconds, [_NO_FRAMES]
    try:
        while (left := limit - monotonic()) > 0 and look.ended == "in time":
            if bursts_of > 1:
                burst(ring, bursts_of)
            else:
                sleep(min(_POLL_S, left))
            taken.append(ring.take())
            if not ring.is_alive():
                look.ended = "process ended"
    except KeyboardInterrupt:
        look.ended = "stopped"
    into.append(np.concatenate([*taken, ring.take()]))


def _traced_s(wish: Wish) -> float:
    """Of one round."""
    return wish.seconds * (1 - _UNTRACED_SHARE) / wish.rounds


def burst(ring: FrameRing, every: int) -> None:
    """Frames are asked for and then are not, for `every` bursts in all: what is not asked for costs nothing."""
    ring.ask(markers.TIMES | markers.MARKS)
    sleep(BURST_S)
    ring.ask(0)
    sleep(BURST_S * (every - 1))


def bursts_of(frames: NDArray[np.int64], wish: Wish) -> int:
    """Frames are looked at in one burst of so many, so that it costs little of the time; always, where late is a
    duration that somebody named, and so may be rare."""
    if wish.late_ms is not None:
        return 1
    between = np.diff(frames[:, BEGAN]) if len(frames) > 1 else np.zeros(1)
    each_ns = max(1.0, float(np.median(frames[:, TOOK])), float(np.median(between)))
    return math.ceil(_LOOK_NS / (_LOOK_SHARE * each_ns))


def ordinary_every(times: NDArray[np.int64], wish: Wish, bursts: int) -> int:
    """Each so manieth frame of those looked at is printed without regard to its duration."""
    frames = _traced_s(wish) * 1e9 / max(1.0, float(np.median(times)))
    return int(max(1, frames / bursts / _ORDINARY_FRAMES))


def print_from_ns(times: NDArray[np.int64], wish: Wish) -> int:
    """From which duration on the kernel prints a frame: a good deal before what will count as late, for that is known
    at the end only."""
    if wish.late_ms is not None:
        return int(wish.late_ms * 1e6)
    return int(np.quantile(times, max(0.5, 1 - 3 * (1 - wish.percentile / 100))))


def _own_frame(row: NDArray[np.int64]) -> Frame:
    return Frame(
        number=int(row[NUMBER]), took_ns=int(row[TOOK]), waited_ns=int(row[DELAY]), minor_faults=int(row[MINOR]),
        major_faults=int(row[MAJOR]), preempted=int(row[INVOLUNTARY]), blocked=int(row[VOLUNTARY]),
    )  # fmt: skip


def _told(ring: FrameRing, wish: Wish, look: _Look, missing: bpftrace_run.Missing | None, seconds: float,
          around: surroundings.Surroundings) -> Trace:  # fmt: skip
    traced = np.concatenate([_NO_FRAMES, *look.traced])
    recorded = (
        record_ns(markers.TIMES) + marks_ns(look.traced)
        if missing is None
        else record_ns(markers.TIMES | markers.FACTS)
    )
    from_ns = late_from_ns(traced[:, TOOK], wish)
    late_numbers = {int(number) for number in traced[traced[:, TOOK] >= from_ns][:, NUMBER]}
    seen = {frame.number: frame for frame in look.seen}
    late = tuple(seen[number] for number in sorted(late_numbers & seen.keys()))
    if missing is not None and around.busiest:
        late = tuple(_suspecting(frame, around.busiest[0]) for frame in late)
    machine = Around(
        fault_ns=surroundings.fault_ns(), io_pressure=around.pressure.get("io"), sees_inside=missing is None
    )  # fmt: skip
    judged = blame(late, look.usual(), machine)
    return Trace(
        pid=ring.pid, way="bpftrace" if missing is None else "own counters", seconds=seconds, frames=len(traced),
        late_from_ms=from_ns / 1e6, late=late, missed=len(late_numbers) - len(late), lost=ring.lost,
        blame=judged, overhead=overhead(look.untraced, look.traced, recorded, max(1, look.every)),
        disk_bytes=dict(sorted(look.disk_bytes.items(), key=lambda item: -item[1])[:3]),
        pressure=around.pressure, interrupts_per_s=around.interrupts_per_s, busiest=around.busiest,
        disk_wait=around.disk_wait, steal=around.steal, unseen=unseen(missing, look.absent, around), ended=look.ended,
        runner_command=surroundings.command_of(judged.because.pid) if judged.because is not None else None,
    )  # fmt: skip


def late_from_ns(times: NDArray[np.int64], wish: Wish) -> float:
    """From which duration on a frame counts as late."""
    if wish.late_ms is not None:
        return wish.late_ms * 1e6
    return float(np.quantile(times, wish.percentile / 100)) if len(times) else 0.0


def _suspecting(frame: Frame, busiest: tuple[str, int, float]) -> Frame:
    """The frame with the busiest process as the likely one that it waited for; its priority is not known."""
    if not frame.waited_ns:
        return frame
    return replace(frame, runner=Runner(name=busiest[0], pid=busiest[1], priority=None, ns=frame.waited_ns))


def unseen(
    missing: bpftrace_run.Missing | None, absent: tuple[str, ...], around: surroundings.Surroundings
) -> tuple[tuple[str, str | None], ...]:
    """What could not be seen, each with the command that mends it, None where none does."""
    found: list[tuple[str, str | None]] = []
    if missing is not None:
        told = "who ran instead, waits for disks, interrupts and the clock of single frames"
        found.append((f"{missing.why}: {told} were not seen", missing.mend))
        if around.disk_wait is None:
            told = "the kernel does not count waits for disks (delay accounting is off)"
            found.append((told, "sudo sysctl kernel.task_delayacct=1, then start the process again"))
    if absent:
        found.append((f"this kernel has no event {', '.join(absent)}", None))
    if not around.pressure:
        found.append(("this kernel does not count pressure", "psi=1 on the kernel's command line"))
    return tuple(found)
