"""Tracks, zones, lines and calmer answers: in simulated worlds, and against formulas written another way."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from edgeward.infer.answer import Answer, Box, Class, document_of
from edgeward.infer.assignment import best_pairs
from edgeward.infer.places import is_inside
from edgeward.infer.stream import begin, follow
from edgeward.infer.tracking import no_tracks, track
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.model import Classify
from edgeward.records.stream import Line, Lines, Smooth, Track, Zone, Zones

SIZE = (400, 600)
ACROSS = Lines(lines=(Line(name="gate", start=(0.5, 1.5), end=(0.5, -0.5)),))
"""Upwards through the middle of the image: from left to right is forward."""
RIGHT_HALF = Zones(zones=(Zone(name="right", polygon=((0.5, -1), (2, -1), (2, 2), (0.5, 2))),))


def box(x, y, side=40.0, score=0.9, index=0, label="person", number=None):
    x, y = float(x), float(y)
    return Box(label, index, score, x - side / 2, y - side / 2, x + side / 2, y + side / 2, number)


def seen(boxes, alive=None):
    return Answer({}, (), 0, 0, 0, boxes=tuple(boxes), size=SIZE, alive=alive)


def followed(steps, answers, times=None):
    stream, told = begin(steps), []
    for number, answer in enumerate(answers):
        stream, one = follow(stream, answer, number * 0.1 if times is None else times[number])
        told.append(one)
    return told


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 9), columns=st.integers(0, 9), share=st.sampled_from([0.2, 0.5, 1.0]), seed=st.integers(0, 9**6)
)  # fmt: skip
def test_pairs_weigh_as_much_as_scipy_s(rows, columns, share, seed):
    generator = np.random.default_rng(seed)
    weights = generator.random((rows, columns)) * (generator.random((rows, columns)) < share)
    gated = np.where(weights >= 0.3, weights, 0)
    pairs = best_pairs(weights, 0.3)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(weights[pair] >= 0.3 for pair in pairs)
    best = gated[linear_sum_assignment(gated, maximize=True)].sum() if gated.size else 0
    assert sum(weights[pair] for pair in pairs) == pytest.approx(best)


def test_a_hundred_that_all_overlap_are_paired_as_scipy_does():
    weights = np.random.default_rng(0).uniform(0.3, 1, (100, 90))
    pairs = best_pairs(weights, 0.3)
    assert len(pairs) == 90
    assert sum(weights[pair] for pair in pairs) == pytest.approx(weights[linear_sum_assignment(weights, True)].sum())


def test_a_track_is_the_kalman_filter_of_the_textbook():
    step = Track(confirm=1)
    tracks, answer = track(step, no_tracks(), seen([box(100, 100)]), 1.0)
    state = np.array([100.0, 0])
    cov = np.diag([4 * (40 / 20) ** 2, 100 * (40 / 160) ** 2])
    for ticks, x in ((1.0, 104), (2.0, 113), (0.5, 114)):
        move = np.array([[1, ticks], [0, 1]])
        state = move @ state
        size = float(tracks.place[0, 2:].mean())
        cov = move @ cov @ move.T + ticks * np.diag([(size / 20) ** 2, (size / 160) ** 2])
        gain = cov[:, 0] / (cov[0, 0] + (40 / 20) ** 2)
        state, cov = state + gain * (x - state[0]), cov - np.outer(gain, cov[0])
        tracks, answer = track(step, tracks, seen([box(x, 100)]), ticks)
        assert [tracks.place[0, 0], tracks.speed[0, 0]] == pytest.approx(state)
        assert [tracks.pp[0, 0], tracks.pv[0, 0], tracks.vv[0, 0]] == pytest.approx([cov[0, 0], cov[0, 1], cov[1, 1]])
    assert answer.boxes[0].track == 1


scene = st.lists(
    st.builds(
        box, x=st.floats(0, 600), y=st.floats(0, 400), side=st.floats(0, 300), score=st.floats(0, 1),
        index=st.integers(0, 1),
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(scenes=st.lists(scene, max_size=14), confirm=st.integers(1, 3), keep=st.integers(1, 4))
def test_a_number_is_one_object_s_for_ever(scenes, confirm, keep):
    ended, before = set(), set()
    for answer in followed((Track(confirm=confirm, keep=keep),), [seen(boxes) for boxes in scenes]):
        told = [one.track for one in answer.boxes if one.track is not None]
        assert len(told) == len(set(told))
        assert set(told) <= set(answer.alive)
        ended |= before - set(answer.alive)
        assert not ended & set(answer.alive)
        before = set(answer.alive)


def world(seed, *, noise=0.0, missed=0.0, answers=120):
    """People on lanes of their own, who walk to and fro through the middle: what is seen of them, and their ways."""
    generator = np.random.default_rng(seed)
    count = 5
    lanes = 40 + np.arange(count) * 75
    periods, phases = generator.uniform(120, 200, count), generator.uniform(0, 1, count)
    ways = 300 + 250 * np.sin(2 * np.pi * (np.arange(answers)[:, None] / periods + phases))
    scenes = []
    for way in ways:
        there = generator.random(count) >= missed
        places = (
            np.stack([way, lanes], 1) + generator.normal(0, noise, (count, 2)) if noise else np.stack([way, lanes], 1)
        )
        scenes.append(seen([box(x, y) for (x, y), one in zip(places, there, strict=True) if one]))
    return scenes, ways


def crossings(ways, confirmed_from):
    """Of x = 300, to the right and to the left."""
    right = ways[confirmed_from:] > 300
    turns = np.diff(right.astype(int), axis=0)
    return int((turns == 1).sum()), int((turns == -1).sum())


@pytest.mark.parametrize("seed", range(6))
def test_who_crosses_is_counted_as_often_as_they_cross(seed):
    scenes, ways = world(seed)
    answer = followed((Track(), ACROSS, RIGHT_HALF), scenes)[-1]
    (line,), (zone,) = answer.lines, answer.zones
    assert (line.forward, line.backward) == crossings(ways, 1)
    assert zone.inside == (ways[-1] > 300).sum()
    assert answer.alive == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("seed", range(6))
def test_noise_and_a_tenth_that_is_not_seen_cost_no_number(seed):
    scenes, _ = world(seed, noise=1.5, missed=0.1)
    answers = followed((Track(),), scenes)
    assert max(answers[-1].alive) <= 7  # one that is missed before it is confirmed begins anew
    assert len(answers[-1].alive) == 5


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 1e9, -1e9])
def test_a_clock_that_jumps_changes_no_number_and_no_count(jump_s):
    scenes, _ = world(1)
    steps = (Track(), ACROSS, RIGHT_HALF)
    times = np.arange(len(scenes)) * 0.1
    calm = followed(steps, scenes, times)
    jumped = followed(steps, scenes, np.where(times < 5, times, times + jump_s))
    for one, other in zip(calm, jumped, strict=True):
        assert [box.track for box in one.boxes] == [box.track for box in other.boxes]
        assert [line.forward for line in one.lines] == [line.forward for line in other.lines]
        for mine, yours in zip(one.zones[0].present, other.zones[0].present, strict=True):
            assert yours.dwell_s == pytest.approx(mine.dwell_s, abs=0.05)


def test_a_clock_that_stands_still_or_says_nothing_does_no_harm():
    scenes, ways = world(2)
    for times in (np.zeros(len(scenes)), np.full(len(scenes), np.nan)):
        answer = followed((Track(), ACROSS, RIGHT_HALF), scenes, times)[-1]
        assert (answer.lines[0].forward, answer.lines[0].backward) == crossings(ways, 1)
        assert all(one.dwell_s == 0 for one in answer.zones[0].present)


def walk(points, number=7):
    return [seen([box(x * 600, y * 400, number=number)], alive=(number,)) for x, y in points]


def lines_of(line, points, anchor="middle"):
    stream = begin((Track(), Lines(lines=(line,), anchor=anchor)))
    stream = type(stream)(stream.steps[1:], stream.states[1:], None)
    for number, answer in enumerate(walk(points)):
        stream, told = follow(stream, answer, number * 0.1)
    return told.lines[0]


tenths = st.tuples(*[st.integers(0, 10).map(lambda number: number / 10)] * 2)


@settings(max_examples=200, deadline=None)
@given(points=st.lists(tenths, min_size=1, max_size=12))
def test_a_line_through_the_whole_image_counts_every_change_of_side_and_touching_it_is_none(points):
    told = lines_of(Line(name="gate", start=(0.5, 9.0), end=(0.5, -9.0)), points)
    sides = [x > 0.5 for x, _ in points if abs(x - 0.5) > 1e-9]
    changes = [after - before for before, after in pairwise(sides)]
    assert (told.forward, told.backward) == (changes.count(1), changes.count(-1))


def test_who_passes_beside_a_line_s_end_crosses_nothing():
    short = Line(name="gate", start=(0.5, 0.6), end=(0.5, 0.4))
    assert lines_of(short, [(0.4, 0.5), (0.6, 0.5)]).forward == 1
    assert lines_of(short, [(0.6, 0.5), (0.4, 0.5)]).backward == 1
    assert lines_of(short, [(0.4, 0.7), (0.6, 0.7)]) == lines_of(short, [(0.4, 0.7)])
    around = lines_of(short, [(0.4, 0.5), (0.4, 0.8), (0.6, 0.8), (0.6, 0.5), (0.4, 0.5)])
    assert (around.forward, around.backward) == (0, 1)


def test_a_zone_tells_who_came_who_left_and_for_how_long():
    zone = Zones(zones=(Zone(name="door", polygon=((0.4, 0), (0.6, 0), (0.6, 1), (0.4, 1))),), anchor="middle")
    stream = begin((zone,))
    told = []
    for number, answer in enumerate(
        [*walk([(0.3, 0.5), (0.5, 0.5), (0.5, 0.6), (0.7, 0.5), (0.5, 0.5)]), seen([], ())]
    ):
        stream, one = follow(stream, answer, number * 0.5)
        told.append(one.zones[0])
    assert [one.inside for one in told] == [0, 1, 1, 0, 1, 0]
    assert [one.entered for one in told] == [(), (7,), (), (), (7,), ()]
    assert [[(left.track, left.dwell_s) for left in one.left] for one in told] == [
        [],
        [],
        [],
        [(7, 1.0)],
        [],
        [(7, 0.5)],
    ]


def test_without_tracks_a_zone_counts_boxes_and_only_of_the_labels_it_is_told():
    zone = Zones(zones=RIGHT_HALF.zones, labels=("person",))
    boxes = [box(400, 100), box(500, 100, label="cat"), box(100, 100)]
    (told,) = followed((zone,), [seen(boxes)])
    assert told.zones[0].inside == 1


def test_lines_without_tracks_and_places_without_boxes_are_refused():
    with pytest.raises(WrongInput, match="lines are crossed by tracks"):
        begin((ACROSS, Track()))
    with pytest.raises(WrongInput, match="zones and lines need boxes"):
        followed((RIGHT_HALF,), [Answer({}, (), 0, 0, 0)])


def test_areas_that_share_an_edge_share_no_point():
    left = ((0, 0), (0.5, 0), (0.5, 1), (0, 1))
    right = ((0.5, 0), (1, 0), (1, 1), (0.5, 1))
    for y in np.linspace(0.01, 0.99, 9):
        assert is_inside((0.5, y), left) + is_inside((0.5, y), right) == 1


@settings(max_examples=100, deadline=None)
@given(x=st.floats(-0.5, 1.5), y=st.floats(-0.5, 1.5))
def test_an_area_with_a_corner_inwards_is_what_inequalities_say(x, y):
    arrow = ((0, 0), (1, 0), (0.5, 0.5), (1, 1), (0, 1))
    edges = (x, y, 1 - y, x - y, x + y - 1)
    if min(map(abs, edges)) > 1e-9:
        assert is_inside((x, y), arrow) == (x > 0 and 0 < y < 1 and (x < y or x < 1 - y))


def named(label, index, score=0.9):
    return Answer({"y": np.eye(3, dtype=np.float32)[index] * score}, (Class(label, index, score),), 0, 0, 0)


def test_the_majority_of_the_last_answers_names_the_class():
    told = followed((Smooth(last=3),), [named(*one) for one in (("a", 0), ("b", 1), ("b", 1), ("a", 0), ("a", 0))])
    assert [one.classes[0].label for one in told] == ["a", "b", "b", "b", "a"]
    assert told[-1].classes[0].score == pytest.approx(2 / 3)


def test_the_mean_of_the_last_outputs_is_read_as_one_is():
    stream = begin((Smooth(last=2, method="mean"),), (Classify(top=2),), ("a", "b", "c"))
    stream, _ = follow(stream, named("a", 0, 0.4), 0.0)
    stream, told = follow(stream, named("b", 1, 0.9), 0.1)
    assert told.outputs["y"].tolist() == pytest.approx([0.2, 0.45, 0])
    assert [one.label for one in told.classes] == ["b", "a"]


def test_what_a_stream_says_stands_in_its_json_and_an_answer_alone_is_as_before():
    (told,) = followed((Track(confirm=1), RIGHT_HALF, ACROSS), [seen([box(400, 100)])])
    document = codec.to_json(document_of(told)).decode()
    assert '"track":1' in document
    assert (
        '"zones":[{"name":"right","inside":1,"entered":[1],"left":[],"present":[{"track":1,"dwell_s":0.0}]}]'
        in document
    )
    assert '"lines":[{"name":"gate","forward":0,"backward":0,"crossed":[]}]' in document
    alone = document_of(seen([box(400, 100)]))
    assert "track" not in codec.to_json(alone).decode()
    assert set(alone) == {"outputs", "latency_ms", "boxes"}
