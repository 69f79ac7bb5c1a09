"""Source → queue → preprocess, model, postprocess → sinks: a pipeline as it runs, until its source ends or it is told
to stop."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from edgeward.infer import Answer, Predictor, Sample
from edgeward.infer.markers import Frame
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.errors import EdgewardError, Unavailable, WrongInput, from_os_error
from edgeward.serve.arrival import Arrival, Wanted
from edgeward.serve.outlets import Direct
from edgeward.serve.results import Outlet, Result

if TYPE_CHECKING:
    from edgeward.infer.stream import Stream as Followed
    from edgeward.records.pipeline import Batching, QueueOptions
    from edgeward.serve.parts import Part
    from edgeward.serve.sources.base import Pace, Source, Stream

_LOOK_S = 0.25
"""So often a pipeline that waits for a sample looks whether it shall stop."""
_SIZES = {"newest": 1, "each": 64}


class Flow(Struct, frozen=True):
    """What is done with samples on their way: how many wait, and run together (a batch waits for `deadline_ms` at
    most). `skips` tells those that need no answer; `second` answers for crops, `followed` is what is known of the
    stream at its start."""

    queue: "QueueOptions | None" = None
    batch: "Batching | None" = None
    skips: Callable[[Sample], bool] | None = None
    second: Callable[[Sample, Any], tuple[Answer | None, ...]] | None = None
    followed: "Followed | None" = None
    limit: int | None = None


class Counts(Struct):
    """What became of the samples. Every one that was `captured` is answered, bad, unchanged, too old or dropped in the
    end; `sinks` is what each sink has not taken."""

    captured: int = 0
    answered: int = 0
    bad: int = 0
    unchanged: int = 0
    too_old: int = 0
    dropped: int = 0
    reopened: int = 0
    sinks: dict[str, int] = {}


class Running:
    """One pipeline. `load` opens the model: after a source of files, which may be wrong, and before a live one, which
    does not wait. `tell` takes a sentence for a person, `seen` each result after the sinks have it."""

    def __init__(
        self,
        load: Callable[[], Predictor],
        source: "Part[Source]",
        wanted: Wanted,
        outlets: Sequence[tuple[str, Outlet]],
        *,
        flow: Flow = Flow(),  # noqa: B008 - frozen
        tell: Callable[[str], None],
        seen: Callable[[Result], None] = lambda result: None,  # noqa: ARG005
        clock: Clock | None = None,
    ) -> None:
        self.counts = Counts()
        self.pace: Pace = source.member.pace(source.options)
        self._load = load
        self._source = source
        self._wanted = wanted
        self._outlets = outlets
        self._flow = flow
        self._followed = flow.followed
        self._tell = tell
        self._seen = seen
        self._clock = clock or SystemClock()
        self._stopping = False
        self.between: Callable[[], None] = lambda: None
        """Called between the samples of a live source, and some times a second while none comes."""
        self.ending: Callable[[], None] = lambda: None
        """Called when the source is left, before the sinks are closed."""

    def stop(self) -> None:
        """Ends the run after what is under way. May be called from a signal handler."""
        self._stopping = True

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def run(self, *, patient: bool = False) -> Counts:
        """Until the source ends. One that is not there at the start is waited for where `patient`; it raises
        Unavailable else. Sinks are closed in any case."""
        self._sinks: list[Direct] = []
        try:
            stream = self._open(patient) if self.pace == "on demand" else None
            self._predictor = self._load()
            if stream is None:
                stream = self._open(patient)
            self._sinks = [self._sink(name, outlet) for name, outlet in self._outlets]
            if self.pace == "on demand" and stream is not None:
                self._pull(stream)
            else:
                self._follow(stream)
        finally:
            for sink in self._sinks:
                sink.close()
                if sink.dropped or sink.failed:
                    self.counts.sinks[sink.name] = sink.dropped + sink.failed
        return self.counts

    def _sink(self, name: str, outlet: Outlet) -> Direct:
        if self.pace == "on demand":
            return Direct(name, outlet, self._tell)
        from edgeward.serve.beside import Beside

        return Beside(name, outlet, self._tell)

    def _open(self, patient: bool) -> "Stream | None":
        try:
            return self._source.member.open(self._source.options, self._wanted)
        except Unavailable as error:
            if not patient or self.pace == "on demand":
                raise
            self._tell(f"{error.message}; trying again")
            return None

    def _pull(self, stream: "Stream") -> None:
        """As fast as the model and the sinks are; nothing is dropped."""
        size = self._flow.batch.size if self._flow.batch else 1
        arrivals = islice(stream, self._flow.limit)
        try:
            while not self._stopping and (group := list(islice(arrivals, size))):
                self.counts.captured += len(group)
                self._answer(group)
        finally:
            stream.close()

    def _follow(self, stream: "Stream | None") -> None:
        """A live source: samples come in another thread, and only what the queue keeps is answered."""
        from edgeward.serve.feed import Feed
        from edgeward.serve.queue import Queue

        said = self._flow.queue
        size = (said and said.size) or max(_SIZES[self.pace], self._flow.batch.size if self._flow.batch else 1)
        queue: Queue[Arrival] = Queue(size, (said and said.policy) or "latest")
        feed = Feed(
            lambda: self._source.member.open(self._source.options, self._wanted), queue, self._tell, first=stream
        )
        feed.start()
        try:
            while not (self._stopping or queue.ended or self._is_over()):
                group = self._take(queue)
                self._count(feed, queue)
                if group:
                    self._answer(group)
                self.between()
        finally:
            self.ending()
            feed.stop()
            self._count(feed, queue)
            self.counts.dropped += len(queue)  # what still waits is not answered any more
        if feed.fault is not None:
            raise feed.fault

    def _is_over(self) -> bool:
        """Whether so many were asked for, or nobody reads our standard output any more."""
        if any(getattr(sink, "ended", False) for sink in self._sinks):
            raise BrokenPipeError
        limit = self._flow.limit
        return limit is not None and self.counts.answered + self.counts.bad >= limit

    def _take(self, queue: Any) -> list[Arrival]:
        batch, limit = self._flow.batch, self._flow.limit
        if batch is None:
            return queue.take(wait_s=_LOOK_S)  # type: ignore[no-any-return]
        most = batch.size if limit is None else min(batch.size, limit - self.counts.answered - self.counts.bad)
        return queue.take(most, wait_s=_LOOK_S, gather_s=batch.deadline_ms / 1e3)  # type: ignore[no-any-return]

    def _count(self, feed: Any, queue: Any) -> None:
        self.counts.captured, self.counts.reopened = feed.captured, feed.reopened
        self.counts.dropped = queue.dropped

    def _answer(self, group: Sequence[Arrival]) -> None:
        with Frame():
            for result in self._results(group):
                if self._is_too_old(result.age_ms):
                    self.counts.too_old += 1
                    continue
                self.counts.answered += 1
                for sink in self._sinks:
                    sink.put(result)
                self._seen(result)

    def _results(self, group: Sequence[Arrival]) -> Iterator[Result]:
        read = [one for one in map(self._read, group) if one is not None]
        if len(read) > 1:
            yield from self._together(read)
            return
        for arrival, sample in read:
            answer = self._guarded(arrival, lambda: self._alone(arrival, sample))  # noqa: B023 - called at once
            if answer is not None:
                yield self._result(arrival, sample, answer)

    def _alone(self, arrival: Arrival, sample: Sample) -> Answer:
        return self._follow_on(arrival, self._predictor.answer(sample))

    def _follow_on(self, arrival: Arrival, answer: Answer) -> Answer:
        """The answer with what those before it in the stream say of it."""
        if self._followed is None:
            return answer
        from edgeward.infer.stream import follow

        at_s = self._clock.monotonic_s() if arrival.captured_s is None else arrival.captured_s
        self._followed, answer = follow(self._followed, answer, at_s)
        return answer

    def _together(self, read: Sequence[tuple[Arrival, Sample]]) -> Iterator[Result]:
        """All in one run; one by one where a sample among them does not fit, so that it alone is told."""
        try:
            answers = self._predictor.answers([sample for _, sample in read])
        except WrongInput:
            for one in read:
                answer = self._guarded(one[0], lambda: self._alone(*one))  # noqa: B023 - called at once
                if answer is not None:
                    yield self._result(*one, answer)
            return
        for (arrival, sample), found in zip(read, answers, strict=True):
            answer = self._guarded(arrival, lambda: self._follow_on(arrival, found))  # noqa: B023 - called at once
            if answer is not None:
                yield self._result(arrival, sample, answer)

    def _read(self, arrival: Arrival) -> tuple[Arrival, Sample] | None:
        """None where it cannot be read, which is told, and where it needs no answer."""
        if self._is_too_old(self._age_ms(arrival)):
            self.counts.too_old += 1
            return None
        try:
            sample = arrival.read()
        except (WrongInput, OSError) as error:
            self._bad((from_os_error(error) if isinstance(error, OSError) else error).message)
            return None
        if self._flow.skips is not None and self._flow.skips(sample):
            self.counts.unchanged += 1
            return None
        return arrival, sample

    def _age_ms(self, arrival: Arrival) -> float | None:
        return None if arrival.captured_s is None else (self._clock.monotonic_s() - arrival.captured_s) * 1e3

    def _is_too_old(self, age_ms: float | None) -> bool:
        most_ms = None if self._flow.queue is None else self._flow.queue.max_age_ms
        return most_ms is not None and age_ms is not None and age_ms > most_ms

    def _guarded(self, arrival: Arrival, answer: Callable[[], Answer]) -> Answer | None:
        try:
            return answer()
        except WrongInput as error:
            self._bad(f"{arrival.source}: {error.message}")
        except EdgewardError as error:
            if self.pace == "on demand":
                raise
            self._bad(f"{arrival.source}: {error.message}")
        return None

    def _crops(self, arrival: Arrival, sample: Sample, answer: Answer) -> tuple[Answer | None, ...]:
        """None where a crop does not fit the second model, which is told: what the first one found is an answer."""
        try:
            return self._flow.second(sample, answer.boxes) if self._flow.second else ()
        except EdgewardError as error:
            self._tell(f"{arrival.source}: the cascade: {error.message}")
            return ()

    def _bad(self, words: str) -> None:
        self.counts.bad += 1
        self._tell(words)

    def _result(self, arrival: Arrival, sample: Sample, answer: Answer) -> Result:
        crops = self._crops(arrival, sample, answer) if self._flow.second and answer.boxes else ()
        return Result(
            source=arrival.source,
            at=self._clock.now(),
            answer=answer,
            sample=sample,
            number=self.counts.answered,
            age_ms=self._age_ms(arrival),
            crops=crops,
            dropped=None if self.pace == "on demand" else self.counts.dropped,
        )
