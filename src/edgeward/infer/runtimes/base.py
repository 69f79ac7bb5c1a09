"""What a runtime promises: to load a model from bytes and run it on batched tensors."""

from typing import Any, Protocol

from numpy.typing import NDArray

from edgeward.infer.account import Account, Accountant, Kernel
from edgeward.infer.node_times import NodeTime, Profile
from edgeward.infer.single import Single
from edgeward.infer.tensors import Tensors
from edgeward.records.model import TensorSpec

__all__ = ["Account", "Accountant", "Kernel", "NodeTime", "Profile", "Runtime", "Session", "Single", "Tensors"]


class Session(Protocol):
    """A loaded model. `inputs` and `outputs` are as the model states them, batch axis included.

    A session may have `arithmetic`: what its convolutions and matrix products are really computed in ("int8",
    "bfloat16"), by the runtime's own account; it is what people are shown. Where that takes the model once more, its
    runtime has `arithmetic_of(model)` instead, so that a session keeps no second copy of the model. It may have
    `placement`: which of the model's nodes run on the accelerator that the runtime is for, and where the others run.
    It may have `single`, a Single or None: a shorter way for one sample; `concurrent`, true where several threads
    may run it at a time; and `run_each(feeds)`, which gives what `run` does for each of several, where asking for all
    of them at once is quicker.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        """One value per output, in order. Raises WrongInput when a name, dtype or shape does not fit."""
        ...


class Runtime(Protocol):
    """An engine that runs models of some formats.

    One whose loading has two steps has `read(model)`, the first of them: it takes the bytes apart and no more.
    One that can time each node has `profile(model, threads=…)`, which gives a Profile; one that can
    also say where each operator of a model ran has `account(model, threads=…)`, which gives an Accountant. Both raise
    what `load` raises.
    """

    @property
    def formats(self) -> tuple[str, ...]:
        """What it loads, such as ("onnx",)."""
        ...

    def version(self) -> str: ...

    def providers(self) -> tuple[str, ...]:
        """The execution back-ends inside it that this machine offers, best first."""
        ...

    def load(self, model: bytes, *, threads: int) -> Session:
        """A session on `threads` threads.

        Raises WrongInput for bytes that are no such model, Unsupported for an operator it does not have.
        """
        ...

    def smoke_model(self) -> bytes:
        """A one-node model that doubles its input: float32, one free dimension, named "x"."""
        ...
