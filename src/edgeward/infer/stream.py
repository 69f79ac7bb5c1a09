"""The answers of one stream, one after another: pure functions from (what was, answer, moment) to (what is, answer).

They stand here, beside the reading of single answers: a service, a pipeline and an evaluation all follow streams, and
none of them needs to know how. Whoever follows keeps one `Stream` for each of its sources.
"""

from collections.abc import Sequence
from statistics import median_low
from typing import Any

from msgspec import Struct

from edgeward.infer import places, smoothing
from edgeward.infer.answer import Answer
from edgeward.infer.postprocess import Classifier, classifier
from edgeward.infer.tracking import no_tracks, track
from edgeward.kit.errors import WrongInput
from edgeward.records.model import Postprocess
from edgeward.records.stream import Lines, Smooth, StreamStep, StreamSteps, Track, Zones

_REMEMBERED = 9
_LONGEST = 5
"""A distance of more than so many usual ones is a clock that jumped, or a source that was away."""


class Stream(Struct, frozen=True):
    """What is known of a stream so far: of each step, and of the distances between its answers (seconds)."""

    steps: StreamSteps
    states: tuple[Any, ...]
    read: Classifier | None
    at_s: float | None = None
    distances_s: tuple[float, ...] = ()


def begin(steps: StreamSteps, postprocess: Postprocess = (), labels: Sequence[str] = ()) -> Stream:
    """A stream without answers yet, of a model whose answers are read so. Raises WrongInput for steps out of order."""
    tracked = False
    for step in steps:
        if isinstance(step, Lines) and not tracked:
            raise WrongInput("lines are crossed by tracks, and there are none", hint="put a track step before lines")
        tracked = tracked or isinstance(step, Track)
    return Stream(steps, tuple(_first(step) for step in steps), classifier(postprocess, labels))


def follow(stream: Stream, answer: Answer, at_s: float) -> tuple[Stream, Answer]:
    """The stream with this answer, and the answer with what the steps make of it. `at_s` is when its sample was
    captured, by any clock in seconds: one that jumps is taken as the usual distance.

    Raises WrongInput for an answer that a step does not fit; the stream stays as it was.
    """
    elapsed_s, distances_s = _elapsed(stream, at_s)
    ticks = elapsed_s / median_low(distances_s) if distances_s and elapsed_s > 0 else 1.0
    states = []
    for step, state in zip(stream.steps, stream.states, strict=True):
        after, answer = _applied(step, state, answer, stream.read, elapsed_s, ticks)
        states.append(after)
    return Stream(stream.steps, tuple(states), stream.read, at_s, distances_s), answer


def _first(step: StreamStep) -> Any:
    match step:
        case Track():
            return no_tracks()
        case Zones():
            return tuple({} for _ in step.zones)
        case Lines():
            return tuple(places.Passed(0, 0, {}) for _ in step.lines)
        case Smooth():
            return ()


def _applied(
    step: StreamStep, state: Any, answer: Answer, read: Classifier | None, elapsed_s: float, ticks: float
) -> tuple[Any, Answer]:
    match step:
        case Track():
            return track(step, state, answer, ticks)
        case Zones():
            return places.zones(step, state, answer, elapsed_s)
        case Lines():
            return places.lines(step, state, answer)
        case Smooth() if step.method == "majority":
            return smoothing.majority(step, state, answer)
        case Smooth():
            return smoothing.mean(step, state, answer, read)


def _elapsed(stream: Stream, at_s: float) -> tuple[float, tuple[float, ...]]:
    """Seconds since the last answer, and the last few such distances. A clock that jumps cannot move them far: the
    median is asked, and a distance that is none, or too long, counts as the usual one."""
    if stream.at_s is None:
        return 0.0, ()
    distance_s, known = at_s - stream.at_s, stream.distances_s
    usual_s = median_low(known) if known else max(0.0, distance_s)
    if not 0 < distance_s < float("inf"):
        return usual_s, known
    elapsed_s = usual_s if distance_s > _LONGEST * usual_s else distance_s
    return elapsed_s, (*known, distance_s)[-_REMEMBERED:]
