"""What a person reads of a trace: how late, why, since when, what to do, and what was not seen."""

from collections.abc import Iterator

from edgeward.cli import console
from edgeward.measure.blame import Blame, Runner, is_real_time
from edgeward.measure.trace import Trace

CAUSES = {
    "cpu": "waited for a CPU",
    "memory": "waited for memory",
    "disk": "waited for a disk",
    "interrupts": "were interrupted",
    "frequency": "ran on a slower clock",
    "other-threads": "waited for other threads",
    "unseen": "show no cause",
}


def show(trace: Trace, percentile: float | None) -> None:
    """All of it on standard output, the answer first."""
    console.paragraph(answer(trace, percentile))
    if advice := to_do(trace):
        console.paragraph(f"  try: {advice}")
    if trace.late and trace.blame.shares:
        console.say()
        rows = [
            (CAUSES[one.cause], f"{one.frames_share:.0%}", f"{one.lost_ms:.3g}", f"{one.lost_ms / len(trace.late):.3g}")
            for one in trace.blame.shares
        ]
        console.table("", ("late frames", "mainly", "ms lost", "ms a frame"), rows, right=(1, 2, 3))
    console.say()
    for line in _beside(trace):
        console.paragraph(line)


def answer(trace: Trace, percentile: float | None) -> str:
    """One sentence: how many were late, and why."""
    ms, blame = console.milliseconds, trace.blame
    if not trace.frames:
        return "no inference was seen while it was traced"
    if not trace.late and not trace.missed:
        return f"none of {trace.frames} frames took {ms(trace.late_from_ms)} or longer"
    which = (
        f"slowest {100 - percentile:g} %" if percentile is not None else f"frames of {ms(trace.late_from_ms)} or more"
    )
    head = f"of the {which} ({len(trace.late)} of {trace.frames}; {ms(blame.late_ms)}, usual {ms(blame.usual_ms)})"
    if blame.cause is None:
        return f"{head}, no cause stands out"
    lead = next(one for one in blame.shares if one.cause == blame.cause)
    because = f" because of {_name(blame.because)}" if blame.because is not None else ""
    sure = f"; that explains {blame.confidence:.0%} of the time lost"
    likely = "" if trace.way == "bpftrace" else ", most likely"
    return f"{head}, {lead.frames_share:.0%} {CAUSES[blame.cause]}{because}{likely}{sure}"


def to_do(trace: Trace) -> str | None:
    """What helps against the cause, None where there is nothing to say."""
    match trace.blame.cause:
        case "cpu":
            return _against_runner(trace.blame, trace.pid)
        case "memory":
            return "give it more memory, or take some from others: cat /proc/pressure/memory; ps aux --sort=-rss | head"
        case "disk":
            writer = next(iter(trace.disk_bytes), None)
            slower = f"ionice -c3 -p $(pgrep -x {writer!r})" if writer else "iotop -o"
            return f"keep what it reads in memory, or let others write less: {slower}"
        case "interrupts":
            return "keep interrupts off its CPU: cat /proc/interrupts, then /proc/irq/N/smp_affinity_list"
        case "frequency":
            return "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
        case "other-threads":
            return "fewer threads (--threads 1), or look at what it waits for: py-spy dump --pid PID"
    return None


def _against_runner(blame: Blame, pid: int) -> str:
    runner = blame.because
    if runner is None:
        return f"nobody ran long instead: does a CPU limit hold it back? grep . /proc/{pid}/cgroup"
    if is_real_time(runner):
        return f"move the real-time thread to another CPU: taskset -pc CPU {runner.pid}"
    if runner.name.startswith(("kworker", "ksoftirqd", "migration", "rcu")):
        return "keep the kernel's work off its CPU: echo CPUS | sudo tee /sys/devices/virtual/workqueue/cpumask"
    return f"give it a CPU of its own, or the other one less: taskset -pc CPU {runner.pid}; renice 10 {runner.pid}"


def _name(runner: Runner) -> str:
    kind = " (real time)" if is_real_time(runner) else ""
    return f"{runner.name}[{runner.pid}]{kind}"


def _beside(trace: Trace) -> Iterator[str]:
    """The setting: what tracing cost, what others did, what was not seen."""
    if trace.ended != "in time":
        told = "the process ended" if trace.ended == "process ended" else "stopped"
        yield f"{told} after {trace.seconds:.1f} s; this is what was seen until then"
    cost = trace.overhead
    if cost is None:
        yield "what tracing cost is not known: too few frames"
    else:
        of_all = f" in one burst of {cost.every}" if cost.every > 1 else ""
        compared = f"n {cost.traced_frames} traced{of_all}, {cost.untraced_frames} not, in turn"
        noise = f"frames without it differ by {cost.noise:.1%} from one slice of time to the next"
        yield f"tracing cost {cost.added_us:.3g} µs a frame, {cost.share:.1%} ({compared}; {noise})"
    pressure = ", ".join(f"{kind} {share:.0%}" for kind, share in trace.pressure.items())
    if pressure:
        yield f"somebody waited so much of the time: {pressure}" + (f"; steal {trace.steal:.0%}" if trace.steal else "")
    if trace.runner_command is not None and trace.blame.because is not None:
        yield f"{trace.blame.because.name}[{trace.blame.because.pid}] is: {trace.runner_command[:200]}"
    if trace.busiest:
        told = ", ".join(f"{name}[{pid}] {share:.0%}" for name, pid, share in trace.busiest)
        yield f"busiest others: {told} of a CPU"
    if trace.disk_bytes:
        yield "disk: " + ", ".join(f"{name} {console.size(count)}" for name, count in trace.disk_bytes.items())
    if trace.missed or trace.lost:
        yield f"{trace.missed} late frames were not looked at closely, {trace.lost} frames were not counted"
    for told, mend in trace.unseen:
        yield f"not seen: {told}" + (f"\n  try: {mend}" if mend else "")
