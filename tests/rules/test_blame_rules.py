"""Blame: from what the kernel printed of real runs, and from facts written down, to a cause."""

from pathlib import Path

import pytest

from edgeward.measure.blame import Around, Blame, Frame, Runner, blame, is_real_time, losses, usual_of
from edgeward.measure.bpftrace_run import parse

RECORDED = Path(__file__).with_name("recorded_traces")
USUAL = Frame(number=0, took_ns=1_000_000, minor_faults=3, frequency_khz=2_000_000)
AROUND = Around()


def judged(name: str) -> Blame:
    """The blame of the slowest twentieth of a run that was recorded on a two-core virtual machine."""
    seen = parse((RECORDED / f"{name}.txt").read_text().splitlines())
    frames = sorted(seen.frames, key=lambda frame: frame.took_ns)
    return blame(frames[-max(1, len(frames) // 20) :], usual_of(frames[: len(frames) // 2]), AROUND)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("busy-neighbour", "cpu"),
        ("real-time-neighbour", "cpu"),
        ("pages-taken-away", "memory"),
        ("writer-with-fsync", "disk"),
        ("undisturbed", None),
    ],
)
def test_a_recorded_disturbance_is_named(name, cause):
    assert judged(name).cause == cause


def test_the_one_who_had_the_cpu_is_named_with_its_priority():
    runner = judged("real-time-neighbour").because
    assert runner is not None
    assert runner.name == "rt-neighbour"
    assert is_real_time(runner)


def test_what_others_wrote_is_read():
    assert any(
        count > 1_000_000
        for count in parse((RECORDED / "writer-with-fsync.txt").read_text().splitlines()).disk_bytes.values()
    )


def test_lines_that_are_no_frames_are_passed_over():
    seen = parse(["ready", "Attaching 20 probes...", "frame 1 2 wait", "", "@x: 5", "@disk[a b]: 7"])
    assert seen.frames == ()
    assert seen.disk_bytes == {"a b": 7}


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"waited_ns": 900_000}, "cpu"),
        ({"disk_ns": 900_000}, "disk"),
        ({"fault_disk_ns": 900_000, "major_faults": 4}, "memory"),
        ({"reclaim_ns": 900_000}, "memory"),
        ({"minor_faults": 1300}, "memory"),
        ({"irq_ns": 500_000, "softirq_ns": 400_000}, "interrupts"),
        ({"frequency_khz": 1_000_000}, "frequency"),
        ({"slept_ns": 900_000}, "other-threads"),
        ({"slept_ns": 900_000, "helpers_ns": 800_000}, "cpu"),
        ({}, None),
    ],
)
def test_each_fact_leads_to_its_cause(facts, cause):
    late = [Frame(number=number, took_ns=2_000_000, **facts) for number in (1, 2, 3)]
    assert blame(late, USUAL, AROUND).cause == cause


def test_what_every_frame_has_is_no_cause_of_lateness():
    usual = Frame(number=0, took_ns=1_000_000, disk_ns=400_000, waited_ns=100_000)
    late = [Frame(number=1, took_ns=2_000_000, disk_ns=400_000, waited_ns=100_000)]
    assert blame(late, usual, AROUND).cause is None


def test_frames_that_are_hardly_slower_blame_nobody():
    late = [Frame(number=1, took_ns=1_100_000, waited_ns=100_000)]
    assert blame(late, USUAL, AROUND).cause is None


def test_the_slowest_that_are_hardly_slower_do_not_hide_why_the_others_are_late():
    hit = [Frame(number=number, took_ns=5_000_000, waited_ns=4_000_000) for number in range(4)]
    slow = [Frame(number=number, took_ns=1_150_000) for number in range(4, 10)]
    assert blame(hit + slow, USUAL, AROUND).cause == "cpu"
    assert blame(hit[:1] + slow, USUAL, AROUND).cause is None


def test_the_losses_of_a_frame_add_up_to_what_it_took_more():
    frame = Frame(number=1, took_ns=3_000_000, waited_ns=500_000, disk_ns=700_000, slept_ns=100_000)
    assert sum(losses(frame, USUAL, AROUND).values()) == pytest.approx(2_000_000)


def test_without_bpftrace_counters_tell_as_much_as_they_can():
    blind = Around(sees_inside=False, io_pressure=0.4)
    slow = {"took_ns": 3_000_000}
    assert blame([Frame(number=1, waited_ns=1_800_000, **slow)], USUAL, blind).cause == "cpu"
    assert blame([Frame(number=1, major_faults=9, blocked=9, **slow)], USUAL, blind).cause == "memory"
    assert blame([Frame(number=1, blocked=9, **slow)], USUAL, blind).cause == "disk"
    assert blame([Frame(number=1, blocked=9, **slow)], USUAL, Around(sees_inside=False)).cause == "other-threads"
    assert blame([Frame(number=1, **slow)], USUAL, blind).cause is None


def test_of_several_who_ran_instead_the_longest_is_named():
    def late(number: int, name: str, ns: int) -> Frame:
        runner = Runner(name=name, pid=number, priority=120, ns=ns)
        return Frame(number=number, took_ns=5_000_000, waited_ns=4_000_000, runner=runner)

    found = blame([late(1, "a", 3_000_000), late(2, "b", 2_000_000), late(3, "b", 2_000_000)], USUAL, AROUND)
    assert found.because is not None
    assert found.because.name == "b"


def test_no_late_frame_is_no_blame():
    assert blame([], USUAL, AROUND).cause is None
