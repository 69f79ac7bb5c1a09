"""What the agent does next: rules over facts, without effects."""

from typing import NamedTuple

from edgeward.records.agent import AgentState, Trial


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
