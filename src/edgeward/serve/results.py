"""What comes out of a pipeline for one sample, the document that sinks write of it, and what takes it."""

from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from edgeward.infer import Answer, Sample, document_of
from edgeward.kit import codec


class Result:
    """One sample's answer. `number` counts the results of this run from 0; `age_ms` is from capture to answer, None
    where nobody knows when it was captured; `crops` are a cascade's answers, one for each of the best boxes. `dropped`
    is how many samples of a live source its queue has given up so far."""

    def __init__(
        self,
        *,
        source: str,
        at: datetime,
        answer: Answer,
        sample: Sample,
        number: int = 0,
        age_ms: float | None = None,
        crops: tuple[Answer | None, ...] = (),
        dropped: int | None = None,
    ) -> None:
        self.source = source
        self.at = at
        self.answer = answer
        self.sample = sample
        self.number = number
        self.age_ms = age_ms
        self.crops = crops
        self.dropped = dropped

    @cached_property
    def document(self) -> dict[str, Any]:
        """What `edgeward run --json` prints: made once, however many sinks write it."""
        made = {"source": self.source, "at": self.at, **document_of(self.answer)}
        if self.crops:
            made["crops"] = [crop and document_of(crop) for crop in self.crops]
        if self.age_ms is not None:
            made["age_ms"] = round(self.age_ms, 3)
        if self.dropped is not None:
            made["dropped"] = self.dropped
        return made

    @cached_property
    def line(self) -> bytes:
        """The document as one line of JSON, which has no NaN: the codec makes it null."""
        return codec.to_json(self.document) + b"\n"


class Outlet(Protocol):
    """An open sink. One thread uses it."""

    def write(self, result: Result) -> None:
        """Takes one result. Raises an EdgewardError or OSError where it could not: it is told and counted, and the
        next result is offered all the same."""
        ...

    def close(self) -> None:
        """Finishes what it has taken. Nothing is written afterwards."""
        ...
