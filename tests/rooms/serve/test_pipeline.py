"""A pipeline from its source to its sinks, with real threads and a model that echoes."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pytest
from pipelines import Script, memory, predictor, recording, running

from edgeward.infer import Predictor
from edgeward.kit.clock import ManualClock, SystemClock
from edgeward.kit.errors import Failed, Unavailable, WrongInput
from edgeward.kit.retry import delays
from edgeward.records.pipeline import Batching, QueueOptions
from edgeward.serve import Flow, sinks
from edgeward.serve.telling import Sparing
from edgeward.serve.unchanged import Unchanged


def values(kept):
    return [float(result.answer.outputs["x_out"][0]) for result in kept.results]


def test_every_sample_of_a_file_is_answered_in_order(tmp_path):
    kept = memory()
    counts = running(str(recording(tmp_path, 100)), kept).run()
    assert values(kept) == [2.0 * number for number in range(100)]
    assert (counts.captured, counts.answered, counts.dropped) == (100, 100, 0)
    assert kept.closed


def test_a_limit_ends_it(tmp_path):
    kept = memory()
    running(str(recording(tmp_path, 100)), kept, flow=Flow(limit=7)).run()
    assert len(kept.results) == 7


def test_a_live_source_is_answered_with_its_age_until_it_ends(tmp_path):
    kept = memory()
    source = {"use": "replay", "path": str(recording(tmp_path, 20)), "rate_hz": 500.0, "each": True}
    counts = running(source, kept).run()
    assert values(kept) == [2.0 * number for number in range(20)]
    assert all(result.age_ms >= 0 for result in kept.results)
    assert counts.captured == counts.answered == 20


def test_a_slow_model_gets_the_latest_sample_of_a_live_source_and_the_drops_are_counted(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Predictor):
        def answer(self, sample):
            begun.set()
            go_on.wait(60)
            return super().answer(sample)

    def model():
        return Slow(predictor().session)

    class Watching(Script):
        """Lets the model go on when everything has been given."""

        def open(self, options, wanted):
            stream = super().open(options, wanted)
            steps = stream.__iter__()

            def give():
                yield next(steps)
                begun.wait(60)
                yield from steps
                go_on.set()

            stream.__class__ = type("Given", (type(stream),), {"__iter__": lambda self: give()})
            return stream

    kept = memory()
    counts = running(Watching([range(10)], "newest").part, kept, model=model).run()
    assert values(kept) == [0.0, 18.0]
    assert (counts.captured, counts.answered, counts.dropped) == (10, 2, 8)


def test_a_source_that_goes_away_is_opened_again_and_told(tmp_path):
    told, kept = [], memory()
    script = Script([[1, 2, Unavailable("the camera went away")], [Unavailable("no camera")], [3]])
    counts = running(script.part, kept, told=told).run()
    assert values(kept) == [2.0, 4.0, 6.0]
    assert counts.reopened == 1
    assert told == [
        "the camera went away; trying again",
        "no camera; trying again",
        "the source is there again",
    ]


def test_a_source_that_is_not_there_at_the_start_is_waited_for_only_by_the_patient():
    with pytest.raises(Unavailable, match="no camera"):
        running(Script([[Unavailable("no camera")]]).part).run()
    kept = memory()
    running(Script([[Unavailable("no camera")], [5]]).part, kept).run(patient=True)
    assert values(kept) == [10.0]


def test_a_source_that_breaks_for_good_ends_the_pipeline_with_its_reason():
    kept = memory()
    with pytest.raises(WrongInput, match="its frames changed their size"):
        running(Script([[1, WrongInput("its frames changed their size")]]).part, kept).run()
    assert kept.closed


def test_a_source_with_a_mistake_in_it_ends_the_pipeline_too():
    with pytest.raises(Failed, match="the source ended: ZeroDivisionError"):
        running(Script([[1, ZeroDivisionError("x")]]).part).run()


class Stubborn:
    """A sink that holds its thread until it is let go."""

    def __init__(self):
        self.go_on = threading.Event()
        self.written = 0

    def write(self, result):
        self.go_on.wait(60)
        self.written += 1

    def close(self):
        pass


class Failing:
    def write(self, result):
        raise Unavailable("nobody listens")

    def close(self):
        raise OSError(28, "No space left on device", "results.jsonl")


@pytest.mark.parametrize("pace", ["on demand", "each"])
def test_a_sink_that_fails_is_told_and_counted_and_the_others_get_everything(pace):
    told, kept = [], memory()
    counts = running(Script([range(5)], pace).part, Failing(), kept, told=told).run()
    assert len(kept.results) == 5
    assert counts.answered == 5
    assert counts.sinks == {"sink-0": 6}
    assert told[0] == "sink sink-0: nobody listens"
    assert told[-1] == "sink sink-0: results.jsonl: no space left on the device"


def test_a_sink_that_hangs_does_not_hold_up_inference_and_its_drops_are_counted():
    stubborn, kept, seen = Stubborn(), memory(), []

    def see(result):
        seen.append(result)
        if len(seen) == 200:  # all are answered before the sink has taken its second
            stubborn.go_on.set()

    queue = QueueOptions(size=8, policy="all")
    counts = running(Script([range(200)]).part, stubborn, kept, flow=Flow(queue=queue), seen=see).run()
    assert counts.answered == 200
    assert stubborn.written + counts.sinks["sink-0"] == 200
    assert stubborn.written <= 66


def test_samples_run_together_and_give_the_same_answers(tmp_path):
    kept = memory()
    source = str(recording(tmp_path, 10))
    running(source, kept, flow=Flow(batch=Batching(size=4, deadline_ms=1))).run()
    assert values(kept) == [2.0 * number for number in range(10)]


def test_a_bad_sample_in_a_batch_is_told_alone(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([[1, 1, 1], [np.nan, 1, 1], [3, 3, 3]], np.float32))
    told, kept = [], memory()
    flow = Flow(batch=Batching(size=3, deadline_ms=1))
    counts = running(str(tmp_path / "x.npz"), kept, flow=flow, told=told).run()
    assert values(kept) == [2.0, 6.0]
    assert counts.bad == 1
    assert "x.npz[1]" in told[0]


def test_unchanged_samples_are_not_answered(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([[0.1] * 3, [0.11] * 3, [0.5] * 3, [0.45] * 3], np.float32))
    kept = memory()
    counts = running(str(tmp_path / "x.npz"), kept, flow=Flow(skips=Unchanged(0.1))).run()
    assert [round(value, 2) for value in values(kept)] == [0.2, 1.0]
    assert counts.unchanged == 2


@pytest.mark.parametrize(("max_age_ms", "answered", "run"), [(40, 0, 1), (60, 1, 2), (None, 4, 4)])
def test_what_has_become_too_old_reaches_no_sink_and_what_is_so_already_is_not_run(max_age_ms, answered, run):
    clock, ran = ManualClock(datetime(2030, 1, 1, tzinfo=UTC)), []

    class Slow(Predictor):
        """50 ms for each."""

        def answer(self, sample):
            ran.append(sample)
            clock.advance(0.05)
            return super().answer(sample)

    kept = memory()
    flow = Flow(queue=QueueOptions(max_age_ms=max_age_ms))
    one = running(Script([range(4)]).part, kept, flow=flow, model=lambda: Slow(predictor().session), clock=clock)
    counts = one.run()
    assert len(kept.results) == counts.answered == answered
    assert len(ran) == run
    assert counts.captured == counts.answered + counts.too_old == 4
    assert all(result.age_ms <= (max_age_ms or 1000) for result in kept.results)


def test_a_stop_finishes_what_is_under_way(tmp_path):
    kept = memory()
    source = {"use": "replay", "path": str(recording(tmp_path, 3)), "rate_hz": 200.0, "repeat": True}
    one = running(source, kept, seen=lambda result: one.stop() if result.number == 4 else None)
    counts = one.run()
    assert counts.answered == 5
    assert len(kept.results) == 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeward-s")]


class JumpingClock(SystemClock):
    """Each time it is asked, it is a day earlier: an NTP step, a flat battery."""

    def __init__(self):
        self._now = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self):
        self._now -= timedelta(days=1)
        return self._now


def test_a_clock_that_jumps_changes_no_age_and_no_order(tmp_path):
    kept = memory()
    lines = sinks.load("jsonl")
    written = lines.open(lines.options(path=str(tmp_path / "answers.jsonl")), "test")
    source = {"use": "replay", "path": str(recording(tmp_path, 20)), "rate_hz": 500.0, "each": True}
    running(source, kept, written, clock=JumpingClock()).run()
    assert all(0 <= result.age_ms < 60_000 for result in kept.results)
    assert values(kept) == [2.0 * number for number in range(20)]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 20


def test_sentences_about_a_stream_never_flood():
    clock, told = ManualClock(datetime(2030, 1, 1, tzinfo=UTC)), []
    tell = Sparing(told.append, clock)
    for number in range(100):
        tell(f"fault {number}")
    assert told == [f"fault {number}" for number in range(5)]
    clock.advance(10)
    tell("another")
    assert told[5:] == ["95 more such sentences were left out", "another"]


def test_tries_come_at_longer_intervals_and_never_all_at_once():
    longest = list(islice(delays(lambda: 1.0, first_s=1, longest_s=8), 6))
    assert longest == [1, 2, 4, 8, 8, 8]
    assert list(islice(delays(lambda: 0.0, first_s=1, longest_s=8), 6)) == [one / 2 for one in longest]
