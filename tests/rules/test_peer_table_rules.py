"""What the table beside the peers says was kept, and what not."""

import msgspec
import pytest
from bench.optimize_vs_peers.cases import read_case
from bench.optimize_vs_peers.table import CaseResult, Row, checks, summary, to_markdown
from hypothesis import given
from hypothesis import strategies as st


def row(name: str, peer: str, ratio: float, drop: float = 0.0, size: int = 400, **more: object) -> Row:
    interval = (ratio * 0.99, ratio * 1.01)
    return Row(
        name, peer, "int8", "onnxruntime", score=0.9 - drop, drop=drop, drop_ci=(drop, drop), size_bytes=size,
        p50_us=100 * ratio, ratio=ratio, ratio_ci=interval, took_s=1.0, **more,
    )  # fmt: skip


def result(*peers: Row, **more: object) -> CaseResult:
    rows = [row("ours", "edgeward", 1.0, size=300), row("float", "given", 2.0, size=1000), *peers]
    efforts = {"edgeward": 10.0, "peer": 20.0}
    return msgspec.structs.replace(CaseResult("case", "audio", "top1", 0.01, 500, 900, rows, efforts, 0.0), **more)


def kept(result: CaseResult) -> dict[str, bool]:
    return {check.promise: check.kept for check in checks(result)}


SPEED = "as fast as the fastest peer that keeps the gate"


@pytest.mark.parametrize(("ratio", "expected"), [(0.90, False), (0.995, True), (1.3, True)])
def test_a_faster_peer_breaks_the_promise_and_a_tie_does_not(ratio, expected):
    assert kept(result(row("peer", "peer", ratio)))[SPEED] is expected


def test_a_peer_that_misses_the_gate_is_no_rival_in_speed():
    assert kept(result(row("quick", "peer", 0.5, drop=0.2), row("good", "peer", 1.2)))[SPEED]


def test_a_peer_that_does_not_run_is_a_line_with_its_reason_and_no_rival():
    told = result(Row("broken", "peer", failure="no wheel for | this Python"))
    assert SPEED not in kept(told)
    line = next(line for line in to_markdown(told).splitlines() if line.startswith("| broken"))
    assert "does not run: no wheel for / this Python" in line
    assert line.count("|") == to_markdown(told).splitlines()[4].count("|")


def test_a_size_above_the_smallest_int8_peer_is_not_kept():
    promise = "no larger than the smallest int8 peer"
    assert not kept(result(row("peer", "peer", 1.5, size=299)))[promise]
    assert kept(result(row("peer", "peer", 1.5, size=300)))[promise]


def test_a_case_may_promise_size_and_time_of_its_own():
    told = kept(result(row("peer", "peer", 1.5), max_size_share=0.29, max_seconds=60.0))
    assert told["at most 0.29 of the float file"] is False
    assert told["in 60 s"] is True
    assert "in 60 s" not in kept(result(row("peer", "peer", 1.5)))


def test_more_time_than_all_peers_together_is_not_kept():
    promise = "in no more time than the peers together"
    assert not kept(result(row("peer", "peer", 1.5), efforts={"edgeward": 21.0, "a": 10.0, "b": 10.0}))[promise]


def test_accuracy_far_behind_the_best_peer_is_not_kept():
    promise = "as accurate as the best peer, within the gate"
    told = result(row("peer", "peer", 1.5), accuracy_behind_best=0.05, accuracy_behind_best_ci=(0.03, 0.07))
    assert not kept(told)[promise]
    unsure = msgspec.structs.replace(told, accuracy_behind_best_ci=(-0.01, 0.11))
    assert kept(unsure)[promise]


def test_where_edgeward_fails_nothing_else_is_claimed():
    told = result(row("peer", "peer", 1.5))
    lost = msgspec.structs.replace(told, runs=0, rows=[Row("edgeward", "edgeward", failure="exit 3"), *told.rows[1:]])
    assert kept(lost) == {"Edgeward finds something": False}
    assert "does not run: exit 3" in to_markdown(lost)


@given(st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_raw_frame_promise_is_about_the_fastest_gated_peer(first, second):
    told = result(
        row("a", "peer", 1.5, frame_us=1.0, frame_ratio=first, frame_ci=(first, first)),
        row("b", "peer", 1.5, frame_us=1.0, frame_ratio=second, frame_ci=(second, second)),
        kind="vision",
    )
    assert kept(told)["from the raw frame at most 0.90 of the fastest peer"] is (1 / min(first, second) <= 0.90)


def test_a_case_is_known_by_its_content(tmp_path):
    (tmp_path / "case.toml").write_text('name = "a"\nmetric = "top1"\nmax_drop = 0.01\nkind = "audio"\n')
    for name in ("model.onnx", "evaluation/0/one.npy", "calibration.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"first")
    before = read_case(tmp_path).digest()
    assert read_case(tmp_path).digest() == before
    (tmp_path / "evaluation/0/one.npy").write_bytes(b"other")
    assert read_case(tmp_path).digest() != before


def test_the_summary_says_yes_no_or_nothing_for_each_case():
    slow = msgspec.structs.replace(result(row("peer", "peer", 0.8)), case="slow", max_seconds=5.0)
    lines = summary([result(row("peer", "peer", 1.5)), slow]).splitlines()
    assert lines[0] == "|  | case | slow |"
    assert f"| {SPEED} | yes | **no** |" in lines
    assert "| in 5 s |  | **no** |" in lines
