"""What the agent does next: rules over facts, without effects."""

from collections.abc import Mapping
from typing import NamedTuple

from edgeward.records.agent import AgentState, Trial

_OWN_BYTES = 64e6
"""What the program that tests takes besides."""


class Finish(NamedTuple):
    """Watch a bundle that runs on trial to the end of it."""

    trial: Trial


class Forget(NamedTuple):
    """A trial that was planned never began: its bundle is not the one that runs."""


class Rest(NamedTuple):
    """Nothing, and why."""

    reason: str


class Bring(NamedTuple):
    """Fetch the bundle of this digest, and put it on trial."""

    digest: str


Action = Finish | Forget | Rest | Bring


def at_start(state: AgentState, current: str | None) -> Action:
    """What a run that ended in the middle left to do."""
    if state.trial is None:
        return Rest("nothing is on trial")
    return Finish(state.trial) if state.trial.digest == current else Forget()


def on_offer(state: AgentState, current: str | None, offered: str, *, is_window: bool) -> Rest | Bring:
    """What to do about the bundle that the source has now."""
    if offered == current:
        return Rest("up to date")
    if offered in state.failed:
        return Rest(f"{offered[:19]}… failed here before: {state.failed[offered]}")
    if state.is_held:
        return Rest(f"{offered[:19]}… waits: updates are held on this device")
    if not is_window:
        return Rest(f"{offered[:19]}… waits for the next maintenance window")
    return Bring(offered)


def why_too_costly(cost: Mapping[str, float | None], most_times_slower: float, most_times_larger: float) -> str | None:
    """Why a bundle that answers rightly will not do on this device, by what `edgeward verify` told of its `cost`."""
    wanted_ms, wanted_bytes = cost["wanted_ms"], cost["wanted_bytes"]
    got_ms, got_bytes = cost["p50_ms"] or 0.0, cost["peak_memory_bytes"] or 0.0
    if wanted_ms is not None and got_ms > most_times_slower * wanted_ms:
        return f"an inference takes {got_ms:.3g} ms, {got_ms / wanted_ms:.1f} times what was measured on such a device"
    if wanted_bytes is not None and got_bytes > most_times_larger * wanted_bytes + _OWN_BYTES:
        return f"it takes {got_bytes / 1e6:.0f} MB of memory; measured on such a device were {wanted_bytes / 1e6:.0f}"
    return None


def is_window(windows: tuple[str, ...], minute: int) -> bool:
    """Whether `minute` of the day (0 is midnight) lies in one of them; without any it always does."""
    return not windows or any(_holds(one, minute) for one in windows)


def next_wait_s(every_s: float, tries_in_vain: int, random: float) -> float:
    """Until the next look: about `every_s`; longer each time that the source was not reached, a day at most. `random`
    (0..1) keeps many devices from coming at once."""
    doubled: float = every_s * 2.0 ** min(tries_in_vain, 10)
    wait_s = min(doubled, max(every_s, 86_400.0))
    return wait_s * (0.9 + 0.2 * random)


def _holds(window: str, minute: int) -> bool:
    begin, end = (int(part[:2]) * 60 + int(part[3:]) for part in window.split("-"))
    return begin <= minute < end if begin <= end else minute >= begin or minute < end
