"""A LiteRT interpreter as a session; whether XNNPACK may use the CPU's matrix tiles is decided once in a process."""

import base64
import ctypes
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer.litert_entry import entering_signed
from edgeward.infer.silence import silence
from edgeward.infer.single import Single, single_spec
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import Dtype, TensorSpec

_LOCK = threading.Lock()
_tiles_decided: bool | None = None

# One ADD node, y = x + x, float32, one free dimension, as the exporter to LiteRT writes it.
_SMOKE = (
    "HAAAAFRGTDMUABwAGAAUABAADAAIAAAAAAAEABQAAAAYAAAAkAAAAJgAAACkAAAArAEAAAMAAAABAAAAEAAAAAAACgAQAAwACAAEAAoAAAAM"
    "AAAAHAAAADwAAAAPAAAAc2VydmluZ19kZWZhdWx0AAEAAAAMAAAACAAMAAgABAAIAAAAAQAAAAQAAAABAAAAeQAAAAEAAAAMAAAAAAAGAAgA"
    "BAAGAAAABAAAAAEAAAB4AAAAAQAAAAQAAADY/v//CAAAAGVkZ2V3YXJkAAAAAAEAAAAUAAAAAAAOABgAFAAQAAwACAAEAA4AAAAUAAAAHAAA"
    "AFwAAABgAAAAZAAAAAQAAABtYWluAAAAAAEAAAAUAAAAAAAOABQAAAAQAAwACwAEAA4AAAAQAAAAAAAACwwAAAAQAAAAVP///wEAAAABAAAA"
    "AgAAAAAAAAAAAAAAAQAAAAEAAAABAAAAAAAAAAIAAABMAAAABAAAANL///8AAAABDAAAABAAAAAUAAAAAQAAAP////8BAAAAeQAAAAEAAAAB"
    "AAAAAAAWABQAEAAAAAAADAAAAAAAAAAIAAcAFgAAAAAAAAEMAAAAEAAAABQAAAABAAAA/////wEAAAB4AAAAAQAAAAEAAAABAAAACAAAAAQA"
    "BAAEAAAA"
)
_SMALL_STACK_BYTES = 8192
_SIGN = np.uint8(128)
"""The bit that a byte minus 128 differs in, as int8."""


class LiteRtSession:
    """A loaded `.tflite` model. One run at a time: an interpreter owns its tensors."""

    def __init__(self, interpreter: Interpreter, *, flips: bool = False) -> None:
        """`flips`: its input takes bytes, and enters as int8, each minus 128."""
        self._interpreter = interpreter
        self._flips = flips
        self._lock = threading.Lock()
        ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
        names_in, names_out = _signature_names(interpreter)
        self.inputs = tuple(_spec(detail, names_in) for detail in ins)
        if flips:
            self.inputs = (replace(self.inputs[0], dtype="uint8"),)
        self.outputs = tuple(_spec(detail, names_out) for detail in outs)
        self._slots = {spec.name: detail["index"] for spec, detail in zip(self.inputs, ins, strict=True)}
        self._dtypes = {
            spec.name: np.dtype(np.uint8 if flips else detail["dtype"])
            for spec, detail in zip(self.inputs, ins, strict=True)
        }
        self._shapes = {
            spec.name: tuple(detail["shape"].tolist()) for spec, detail in zip(self.inputs, ins, strict=True)
        }
        self._expected = self._what_fits()
        self._results = tuple(detail["index"] for detail in outs)
        self.single = self._single()

    @property
    def arithmetic(self) -> str:
        """Of the convolutions and matrix products: what their activations are kept in."""
        heavy = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
        types = {detail["index"]: np.dtype(detail["dtype"]).name for detail in self._interpreter.get_tensor_details()}
        used = [
            types.get(node["inputs"][0], "float32")
            for node in self._interpreter._get_ops_details()  # the only list of operators there is
            if node["op_name"] in heavy
        ]
        return max(set(used), key=used.count) if used else "float32"

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        with self._lock:
            for name, dtype, shape in self._expected:
                value = feeds.get(name)
                if value is None or value.dtype != dtype or value.shape != shape or len(feeds) > len(self._slots):
                    self._check(feeds)
                    break
            # The object below the public one (not to be kept: the interpreter counts who holds it). On the smallest
            # models the calls between are a tenth of the time; so is each look at the inputs.
            native = self._interpreter._interpreter
            for name, index in self._slots.items():
                native.SetTensor(index, _flipped(feeds[name]) if self._flips else feeds[name])
            try:
                native.Invoke()
                return [native.GetTensor(index, 0) for index in self._results]
            except (RuntimeError, ValueError) as error:
                raise Failed(f"inference failed in LiteRT: {_sentence(error)}") from error

    def _single(self) -> Single | None:
        spec = single_spec(self.inputs, self.outputs)
        if spec is None or self._shapes[spec.name][0] != 1:
            return None
        lock, interpreter, index, (first, *others) = (
            self._lock,
            self._interpreter,
            self._slots[spec.name],
            self._results,
        )
        whole, shape = self._shapes[spec.name], self._shapes[spec.name][1:]
        enter = self._entry(shape)

        def run(tensor: NDArray[Any]) -> list[NDArray[Any]]:
            with lock:
                if self._shapes[spec.name] is not whole:
                    self._resize(spec.name, whole)
                native = interpreter._interpreter
                try:
                    native.SetTensor(index, enter(tensor))
                    native.Invoke()
                    value = native.GetTensor(first, 0)[0]
                    return [value, *(native.GetTensor(other, 0)[0] for other in others)] if others else [value]
                except (RuntimeError, ValueError) as error:
                    raise Failed(f"inference failed in LiteRT: {_sentence(error)}") from error

        return Single(spec.name, self._dtypes[spec.name], shape, run)

    def _entry(self, shape: tuple[int, ...]) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """From the tensor of one sample to what the interpreter takes; a frame's is written to the same place."""
        if not self._flips:
            return lambda tensor: tensor[None]
        flipped = np.empty(shape, np.uint8)
        signed = flipped.view(np.int8)[None]

        def enter(tensor: NDArray[Any]) -> NDArray[Any]:
            np.bitwise_xor(tensor, _SIGN, flipped)
            return signed

        return enter

    def invoke(self) -> None:
        """One inference of what was fed last; nothing is copied in or out."""
        with self._lock:
            self._interpreter._interpreter.Invoke()

    @property
    def operators(self) -> tuple[str, ...]:
        """The file's operators, in order; not what a delegate put in their place."""
        return tuple(
            str(node["op_name"]) for node in self._interpreter._get_ops_details() if node["op_name"] != "DELEGATE"
        )

    def _what_fits(self) -> tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]:
        """Name, dtype and shape of each input as it is now."""
        return tuple((name, self._dtypes[name], self._shapes[name]) for name in self._slots)

    def _check(self, feeds: Tensors) -> None:
        """Raises WrongInput for what does not fit; makes room for another shape."""
        for name in self._slots:
            value = feeds.get(name)
            if value is None:
                raise WrongInput(f"input {name!r} is missing; the model wants {', '.join(self._slots)}")
            if value.dtype != self._dtypes[name]:
                raise WrongInput(f"input {name!r} is {self._dtypes[name]}, got {value.dtype}")
            if value.shape != self._shapes[name]:
                self._resize(name, value.shape)
        if len(feeds) > len(self._slots):
            raise WrongInput(f"the model has no input {next(iter(set(feeds) - set(self._slots)))!r}")

    def _resize(self, name: str, shape: tuple[int, ...]) -> None:
        wanted = next(spec.shape for spec in self.inputs if spec.name == name)
        fits = len(wanted) == len(shape) and all(
            isinstance(want, str) or want == got for want, got in zip(wanted, shape, strict=True)
        )
        if not fits:
            raise WrongInput(f"input {name!r} has shape {list(wanted)}, got {list(shape)}")
        try:
            self._interpreter.resize_tensor_input(self._slots[name], shape)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise WrongInput(f"the model does not take {name!r} in shape {list(shape)}: {_sentence(error)}") from error
        self._shapes[name] = shape
        self._expected = self._what_fits()


def load(model: bytes, *, threads: int, tiles: bool) -> LiteRtSession:
    """A session on `threads` threads. `tiles`: XNNPACK may use AMX where the CPU has it.

    Raises WrongInput for bytes that are no LiteRT model; Unsupported for operators that LiteRT does not have, and for
    a session that wants it the other way than the one before: a process decides once.
    """
    _decide(tiles)
    signed = None
    try:
        interpreter = Interpreter(model_content=model, num_threads=threads)
        signed = entering_signed(model)
        if signed is not None:
            interpreter = Interpreter(model_content=signed, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise _load_fault(error) from error
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _load_fault(error) from error
    return LiteRtSession(interpreter, flips=signed is not None)


def read(model: bytes) -> object:
    """An interpreter without memory for its tensors yet."""
    return Interpreter(model_content=model, num_threads=1)


def _flipped(values: NDArray[Any]) -> NDArray[Any]:
    flipped: NDArray[Any] = np.bitwise_xor(values, _SIGN).view(np.int8)
    return flipped


def version() -> str:
    return str(ai_edge_litert.__version__)


def smoke_model() -> bytes:
    """A model of one node that doubles its input, "x"."""
    return base64.b64decode(_SMOKE)


def cpu_has_tiles() -> bool:
    """Whether this CPU has AMX, so that the decision makes a difference."""
    if platform.machine() != "x86_64":
        return False
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib is a slower import
        return any(line.startswith("flags") and " amx_int8" in line for line in file)


def _decide(tiles: bool) -> None:
    """XNNPACK reads the CPU when its first delegate is made, for the whole process: that one is made here."""
    global _tiles_decided  # the state is XNNPACK's own: one for the process
    with _LOCK:
        if _tiles_decided is None:
            # It writes a line of information to standard error when its first delegate is made.
            with silence(), no_room_for_tiles() if not tiles and cpu_has_tiles() else nothing():
                Interpreter(model_content=smoke_model(), num_threads=1).allocate_tensors()
            _tiles_decided = tiles
        elif _tiles_decided != tiles and cpu_has_tiles():
            raise Unsupported("a process runs LiteRT with matrix tiles or without; the other one was loaded before")


class _SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def no_room_for_tiles() -> Iterator[None]:
    """Linux grants AMX only to a process whose alternate signal stacks hold its 8 kB of tiles: while a smaller one is
    set, XNNPACK asks in vain and takes its AVX-512 kernels.

    Tiles are 64 output channels wide: over the 8 to 32 channels of small models most of their work is thrown away.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(_SMALL_STACK_BYTES)
    small = _SignalStack(ctypes.addressof(memory), 0, _SMALL_STACK_BYTES)
    before = _SignalStack()
    if libc.sigaltstack(ctypes.byref(small), ctypes.byref(before)) != 0:
        yield
        return
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


@contextmanager
def nothing() -> Iterator[None]:
    """Holds nothing back."""
    yield


def _signature_names(interpreter: Interpreter) -> tuple[dict[int, str], dict[int, str]]:
    """The names that the file's only signature gives to tensors."""
    signatures = interpreter._get_full_signature_list()  # the public list has no tensor indices
    if len(signatures) != 1:
        return {}, {}
    signature = next(iter(signatures.values()))
    ins, outs = ({index: name for name, index in signature[side].items()} for side in ("inputs", "outputs"))
    return ins, outs


def _spec(detail: dict[str, Any], names: dict[int, str]) -> TensorSpec:
    stated = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape = tuple(int(dim) if dim >= 0 else f"dim{index}" for index, dim in enumerate(stated))
    dtype = np.dtype(detail["dtype"]).name
    name = names.get(detail["index"], detail["name"])
    return TensorSpec(name=name, dtype=cast(Dtype, "string" if dtype.startswith("bytes") else dtype), shape=shape)


def _load_fault(error: Exception) -> WrongInput | Unsupported:
    sentence = _sentence(error)
    if "unresolved" in sentence or "Didn't find op" in sentence or "not supported" in sentence:
        return Unsupported(f"LiteRT cannot run this model: {sentence}")
    return WrongInput(f"this is no valid LiteRT model: {sentence}")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
