"""A runtime's account of a whole model: which of the model's own operators each kernel stands for, and where it ran."""

from typing import NamedTuple, Protocol

from edgeward.infer.node_times import NodeTime
from edgeward.infer.tensors import Tensors
from edgeward.records.model import TensorSpec


class Assigned(NamedTuple):
    """An operator as the runtime assigned it to a back-end, in the `part` that the back-end got in one piece."""

    name: str
    op: str
    device: str
    part: int = 0


class Kernel(NamedTuple):
    """What ran, with the names of the model's operators in it as far as the runtime tells them.

    `device` is the back-end ("CPU", "XNNPACK", "CUDA"), `precision` what it computes in, `detail` its own name.
    """

    time: NodeTime
    device: str
    precision: str
    detail: str = ""
    sources: tuple[str, ...] = ()


class Account(NamedTuple):
    """Kernels in the order they ran. `graph` is the runtime's own graph as ONNX where it gives one.

    `remark` is what else is to be known of how the times came about.
    """

    kernels: tuple[Kernel, ...]
    assigned: tuple[Assigned, ...] = ()
    graph: bytes = b""
    remark: str = ""


class Accountant(Protocol):
    """A loaded model that keeps an account of its runs."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Tensors) -> None: ...

    @property
    def took_ms(self) -> list[float]:
        """Of each run, what the runtime's own call took while the profiler was on."""
        ...

    def account(self) -> Account:
        """Of all runs so far. Called once, after the last run."""
        ...
