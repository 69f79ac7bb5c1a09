"""What times and memory are worth that were not taken on the target itself, in sentences. Rules only."""

from collections.abc import Sequence

from msgspec.structs import asdict, replace

from edgeward.kit.errors import Unsupported
from edgeward.measure.jobs import Facts
from edgeward.optimize.choose import Choice
from edgeward.optimize.propose import AS_GIVEN
from edgeward.records.candidate import Latency, Timing, Trial
from edgeward.records.target import Budget

_HANGS_ON_THE_MACHINE = {
    "latency_p50_ms": "p50",
    "latency_p95_ms": "p95",
    "latency_p99_ms": "p99",
    "cold_start_ms": "cold start",
    "throughput_min_per_s": "throughput",
    "peak_memory_bytes": "peak memory",
}
_INT8_FEATURES = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}


def check_budget(timing: Timing, facts: Facts, budget: Budget) -> None:
    """Raises Unsupported for limits that nothing measured there can be held against."""
    if timing == "meaningless" and (limited := _limited(budget)):
        raise Unsupported(
            f"--budget: {' and '.join(limited)} cannot be limited on {facts.name}: what is measured under emulation "
            "means nothing",
            hint="limit the size, or give --target a real device",
        )


def notes(timing: Timing, facts: Facts, here: Facts, budget: Budget, *, threads: int | None) -> tuple[str, ...]:
    """What the reader of the figures must know; `threads` is what the user asked for."""
    if timing == "measured":
        return ()
    if timing == "meaningless":
        return (
            f"{facts.name} is emulated: its times and memory mean nothing, and nothing was chosen by them; size and "
            "quality hold on a real one",
        )
    limited = _limited(budget)
    return (
        f"forecasts: latency, speed, load time and memory were measured on {here.hostname} ({here.cpu}), not on "
        f"{facts.name}; {_what_holds(facts, here)}",
        *((f"the limits on {' and '.join(limited)} were held against these forecasts",) if limited else ()),
        *(("the numbers of threads are what was best on this machine; --threads N says another",) * (threads is None)),
    )


def _what_holds(facts: Facts, here: Facts) -> str:
    if facts.arch != here.arch:
        return (
            f"size holds there too; so does the quality of float models, while int8 kernels of {facts.arch} may round "
            "some answers otherwise"
        )
    different = (set(facts.cpu_features) ^ set(here.cpu_features)) & _INT8_FEATURES
    if different:
        return (
            "size holds there too; so does the quality of float models, while int8 kernels may round some answers "
            f"otherwise where one of the two CPUs has no {' and '.join(sorted(different))}"
        )
    return "size and quality hold there too, with the same versions of the runtimes"


def _limited(budget: Budget) -> list[str]:
    limits = asdict(budget)
    return [word for name, word in _HANGS_ON_THE_MACHINE.items() if limits[name] is not None]


def comparable(timing: Timing, trials: Sequence[Trial]) -> list[Trial]:
    """The trials as the front of the best is to see them: equally fast where times mean nothing."""
    if timing != "meaningless":
        return list(trials)
    alike = Latency(p50=1, p95=1, p99=1, runs=1)
    return [replace(trial, latency_ms=trial.latency_ms and alike) for trial in trials]


def untimed(timing: Timing, choice: Choice, kept: int) -> Choice:
    """The choice, its reason without a word on speed where times mean nothing."""
    if timing != "meaningless" or choice.chosen is None:
        return choice
    said = "leave it as it is: the model as given" if choice.chosen.recipe == AS_GIVEN else choice.chosen.recipe
    return choice._replace(reason=f"{said} is the most accurate of the smallest of {kept} that kept the limits")
