"""What tests of pipelines build: a model that echoes three numbers, recorded samples, and obedient sources."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.base import Document
from edgeward.records.model import TensorSpec
from edgeward.serve import Flow, Running, sinks
from edgeward.serve.parts import Part, source_of
from edgeward.serve.sources import Arrival, Pace, Wanted

WANTED = Wanted("echo", "tensor", (TensorSpec(name="x", dtype="float32", shape=(3,)),))


def predictor() -> Predictor:
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    return Predictor(load("echo").load(codec.to_json(EchoModel(inputs=(spec,), gain=2.0)), threads=1))


def recording(folder: Path, count: int) -> Path:
    """An .npz of samples (0, 0, 0), (1, 1, 1), …"""
    path = folder / "recorded.npz"
    np.savez(path, x=np.repeat(np.arange(count, dtype=np.float32)[:, None], 3, axis=1))
    return path


def memory() -> Any:
    sink = sinks.load("memory")
    return sink.open(sink.options(), "test")


def running(
    source: Part[Any] | str | dict[str, Any],
    *outlets: Any,
    flow: Flow = Flow(),  # noqa: B008 - frozen
    told: list[str] | None = None,
    model: Callable[[], Predictor] = predictor,
    wanted: Wanted = WANTED,
    **more: Any,
) -> Running:
    part = source if isinstance(source, Part) else source_of(source)
    named = [(f"sink-{place}", outlet) for place, outlet in enumerate(outlets)]
    return Running(model, part, wanted, named, flow=flow, tell=[].append if told is None else told.append, **more)


class ScriptOptions(Document):
    name: str = "script"


class Script:
    """A source that gives what a list says: a number becomes a sample, an error is raised where it is opened (the
    first of an opening) or while it is read."""

    options = ScriptOptions

    def __init__(self, openings: Sequence[Sequence[float | Exception]], pace: Pace = "each") -> None:
        self._openings = iter(openings)
        self._pace: Pace = pace

    def pace(self, options: ScriptOptions) -> Pace:
        return self._pace

    def open(self, options: ScriptOptions, wanted: Wanted) -> "ScriptStream":
        steps = list(next(self._openings))
        if steps and isinstance(steps[0], Exception):
            raise steps[0]
        return ScriptStream(steps)

    @property
    def part(self) -> Part[Any]:
        return Part("script", self, msgspec.convert({}, ScriptOptions))


class ScriptStream:
    def __init__(self, steps: Sequence[float | Exception]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Arrival]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            yield Arrival(f"script[{step:g}]", lambda step=step: {"x": np.full(3, step, np.float32)}, 0.0)

    def close(self) -> None:
        pass
