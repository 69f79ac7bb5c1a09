"""What an exporter promises: a model's bytes in another format, with the same answers."""

from typing import NamedTuple, Protocol, runtime_checkable

import onnx


class Exported(NamedTuple):
    """The model file, and notes for the report."""

    data: bytes
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """Writes a model in one format. The graph may hold QuantizeLinear/DequantizeLinear pairs: they become the
    format's own quantised tensors."""

    @property
    def suffix(self) -> str:
        """What its files end in, such as ".onnx"."""
        ...

    def export(self, model: onnx.ModelProto) -> Exported:
        """Never changes `model`. Raises Unsupported, naming the operator, for what the format cannot say."""
        ...


@runtime_checkable
class Compiler(Exporter, Protocol):
    """An exporter whose files are machine code: `export` makes them for this machine."""

    def compile_for(self, model: onnx.ModelProto, arch: str) -> Exported:
        """For the processors that Linux calls `arch`. Raises Unsupported where it has no code for them."""
        ...
