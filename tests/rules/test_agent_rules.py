"""What the agent does next, and what may run on a device: rules over facts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.agent.decide import (
    Bring,
    Finish,
    Forget,
    Rest,
    at_start,
    is_window,
    next_wait_s,
    on_offer,
    why_too_costly,
)
from edgeward.bundle.policy import Device, Offered, Ran, order_of, refusal
from edgeward.records.agent import AgentState, Trial

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OFFER = Offered("digits", "1.2.0", NOW, NEW, "onnxruntime", ("raspberry-pi-5",))


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (Device("digits", {}), None),
        (Device("door", {}), "is a bundle of 'digits'; this device runs 'door'"),
        (Device("digits", {NEW: "it crashed"}), "failed here before: it crashed"),
        (Device("digits", {}, only_targets=("raspberry-pi-5", "pi")), None),
        (Device("digits", {}, only_targets=("jetson",)), "is for raspberry-pi-5; this device is jetson"),
        (Device("digits", {}, Ran("1.10.0", NOW)), "is older (1.2.0) than what ran here already (1.10.0)"),
        (Device("digits", {}, Ran("1.2", NOW + timedelta(days=1))), "is older"),
        (Device("digits", {}, Ran("1.2.0-rc1", NOW)), None),
        (Device("digits", {}, Ran("9", NOW), allows_older=True), None),
    ],
)
def test_what_may_run(device: Device, reason: str | None) -> None:
    found = refusal(OFFER, device)
    assert found is None if reason is None else (found or "").startswith(reason)


def test_versions_sort_as_people_mean_them() -> None:
    ordered = ["0.9", "1.0-rc1", "1.0", "1.0.1", "1.9", "1.10", "2"]
    assert sorted(["1.10", "2", "1.0", *ordered[:2], "1.9", "1.0.1"], key=order_of) == ordered
    assert order_of("v1.0.0") == order_of("1")


def test_a_device_never_takes_what_is_older_than_what_it_proved() -> None:
    @given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.lists(st.integers(0, 20), min_size=1, max_size=4))
    def holds(mine: list[int], theirs: list[int]) -> None:
        version, proven = (".".join(map(str, numbers)) for numbers in (mine, theirs))
        allowed = refusal(OFFER._replace(version=version), Device("digits", {}, Ran(proven, NOW))) is None
        width = max(len(mine), len(theirs))
        pad = lambda numbers: numbers + [0] * (width - len(numbers))  # noqa: E731
        assert allowed == (pad(mine) >= pad(theirs))

    holds()


@pytest.mark.parametrize(
    ("state", "current", "window", "action"),
    [
        (AgentState(), OLD, True, Bring(NEW)),
        (AgentState(), None, True, Bring(NEW)),
        (AgentState(), NEW, True, Rest("up to date")),
        (AgentState(is_held=True), OLD, True, "waits: updates are held on this device"),
        (AgentState(), OLD, False, "waits for the next maintenance window"),
        (AgentState(failed={NEW: "it was slow"}), OLD, True, "failed here before: it was slow"),
    ],
)
def test_what_follows_from_an_offer(state: AgentState, current: str | None, window: bool, action: object) -> None:
    found = on_offer(state, current, NEW, is_window=window)
    assert found.reason.endswith(action) if isinstance(action, str) else found == action  # type: ignore[union-attr]


def test_what_a_run_that_was_cut_left_to_do() -> None:
    trial = Trial(digest=NEW, before=OLD)
    assert at_start(AgentState(), OLD) == Rest("nothing is on trial")
    assert at_start(AgentState(trial=trial), NEW) == Finish(trial)
    assert at_start(AgentState(trial=trial), OLD) == Forget(), "it was cut before the switch"


@pytest.mark.parametrize(
    ("windows", "minute", "inside"),
    [((), 0, True), (("02:00-04:00",), 120, True), (("02:00-04:00",), 240, False), (("22:30-01:00",), 30, True),
     (("22:30-01:00",), 1300, False), (("01:00-02:00", "05:00-06:00"), 330, True)],
)  # fmt: skip
def test_maintenance_windows(windows: tuple[str, ...], minute: int, inside: bool) -> None:
    assert is_window(windows, minute) is inside


def test_without_a_network_it_asks_less_and_less_often_and_once_a_day_for_ever() -> None:
    waits = [next_wait_s(3600, tries, 0.5) for tries in (0, 1, 2, 5, 100, 100_000)]
    assert waits == [3600, 7200, 14400, 86400, 86400, 86400]
    assert next_wait_s(7 * 86400, 100, 0.5) == 7 * 86400, "never more often than it was told"


@pytest.mark.parametrize(
    ("got_ms", "wanted_ms", "got_mb", "wanted_mb", "why"),
    [
        (2.9, 1.0, 100, 60, None),
        (3.1, 1.0, 100, 60, "an inference takes 3.1 ms, 3.1 times what was measured"),
        (1.0, 1.0, 190, 60, "it takes 190 MB of memory; measured on such a device were 60"),
        (900.0, None, 9000, None, None),
    ],
)
def test_what_answers_rightly_may_still_be_too_slow_or_too_large(got_ms, wanted_ms, got_mb, wanted_mb, why) -> None:
    wanted = None if wanted_mb is None else wanted_mb * 1e6
    cost = {"p50_ms": got_ms, "wanted_ms": wanted_ms, "peak_memory_bytes": got_mb * 1e6, "wanted_bytes": wanted}
    found = why_too_costly(cost, 3.0, 2.0)
    assert found == why if why is None else why in (found or "")
