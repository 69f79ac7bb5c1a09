"""The runtime that needs nothing: its model is a JSON list of tensor specs, its answer the input times `gain`.

It is the reference for what a runtime promises, and stands in for a real one in the tests of other rooms.
"""

from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from edgeward.infer.runtimes.base import Runtime, Session, Tensors
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.model import TensorSpec


class EchoModel(Struct):
    """The echo format: what comes in goes out, multiplied."""

    inputs: tuple[TensorSpec, ...]
    gain: float = 1.0


class EchoSession:
    def __init__(self, model: EchoModel) -> None:
        self._gain = model.gain
        self.inputs = model.inputs
        self.outputs = tuple(
            TensorSpec(name=f"{spec.name}_out", dtype=spec.dtype, shape=spec.shape) for spec in model.inputs
        )

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        wanted = {spec.name: spec for spec in self.inputs}
        for name, value in feeds.items():
            if name not in wanted:
                raise WrongInput(f"the model has no input {name!r}; it has {', '.join(wanted)}")
            if str(value.dtype) != wanted[name].dtype:
                raise WrongInput(f"input {name!r} is {wanted[name].dtype}, got {value.dtype}")
            if not _fits(value.shape, wanted[name].shape):
                raise WrongInput(f"input {name!r} has shape {wanted[name].shape}, got {value.shape}")
        missing = [name for name in wanted if name not in feeds]
        if missing:
            raise WrongInput(f"input {missing[0]!r} is missing")
        return [(feeds[spec.name] * self._gain).astype(feeds[spec.name].dtype) for spec in self.inputs]


class Echo:
    formats = ("echo",)

    def version(self) -> str:
        return "1"

    def providers(self) -> tuple[str, ...]:
        return ("echo",)

    def load(self, model: bytes, *, threads: int) -> Session:  # noqa: ARG002 - the promise names it
        return EchoSession(codec.from_json(model, EchoModel, "the echo model"))

    def smoke_model(self) -> bytes:
        spec = TensorSpec(name="x", dtype="float32", shape=("n",))
        return codec.to_json(EchoModel(inputs=(spec,), gain=2.0))


def _fits(got: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    return len(got) == len(wanted) and all(isinstance(w, str) or g == w for g, w in zip(got, wanted, strict=True))


plugin: Runtime = Echo()
