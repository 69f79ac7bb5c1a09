"""The messages between the service and a client on the same machine, as bytes. docs/wire.md is the promise.

Little-endian, packed, one message per packet of a SOCK_SEQPACKET socket. No socket and no numpy here.
"""

from enum import IntEnum
from struct import Struct, error
from typing import NamedTuple

from edgeward.kit.errors import WrongInput

MAGIC = b"EGW1"
VERSION = 1
MESSAGE_BYTES = 1 << 16
"""No message is longer; larger tensors go through the shared region."""
ALIGNMENT = 64
"""Of each output in the answer space."""
MOST_DIMS = 16


class Kind(IntEnum):
    hello = 1
    welcome = 2
    describe = 3
    description = 4
    infer = 5
    answer = 6
    error = 7


class Place(IntEnum):
    """Where a tensor's bytes are: in this message or in the shared region; an offset counts from its start."""

    message = 0
    region = 1


DATATYPES = (
    "", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
)  # fmt: skip
"""The Open Inference Protocol's names; a datatype is sent as its index."""
CODES = {name: code for code, name in enumerate(DATATYPES) if name}

HEAD = Struct("<4sHHQ")
"""Magic, kind, status (0, or as HTTP's), and the number that an answer repeats."""
HELLO = Struct("<HHIQ")
"""Lowest and highest version the client speaks, 0, bytes of its region."""
WELCOME = Struct("<HHIQ")
"""The version spoken from now on, requests that may be under way, bytes of a message and of a region at most."""
DESCRIBE = Struct("<HH")
"""Bytes of the model's name and version, which follow."""
INFER = Struct("<HHHHIIQQ")
"""Bytes of the model's name and version; how many inputs and outputs; deadline in ms, 0; the answer space."""
TENSOR = Struct("<BBHIQQ")
"""Datatype, rank, bytes of the name, place, offset, bytes; its dimensions (int64) and its name follow."""
ANSWER = Struct("<HHIII")
"""How many outputs, 0, and microseconds of preparing, inferring and finishing; the outputs follow."""
ERROR = Struct("<I")
"""Seconds after which it may be tried again, or 0; the sentence in UTF-8 follows to the message's end."""
_LENGTH = Struct("<H")
_DIMS = [Struct(f"<{rank}q") for rank in range(MOST_DIMS + 1)]


class Tensor(NamedTuple):
    name: str
    datatype: str
    shape: tuple[int, ...]
    place: int
    offset: int
    size: int


class Head(NamedTuple):
    kind: int
    status: int
    number: int


class Infer(NamedTuple):
    """`outputs` is empty where all are wanted; the answer goes inline where `answer_size` is 0."""

    model: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    answer_offset: int
    answer_size: int
    deadline_ms: int


def head(kind: Kind, number: int, status: int = 0) -> bytes:
    return HEAD.pack(MAGIC, kind, status, number)


def read_head(message: bytes) -> Head:
    if len(message) < HEAD.size or message[:4] != MAGIC:
        raise WrongInput(f"a message begins with {MAGIC!r} and has {HEAD.size} bytes at least, got {message[:8]!r}")
    _, kind, status, number = HEAD.unpack_from(message)
    return Head(kind, status, number)


def pack_tensor(tensor: Tensor) -> bytes:
    name = tensor.name.encode()
    fixed = TENSOR.pack(
        CODES[tensor.datatype], len(tensor.shape), len(name), tensor.place, tensor.offset, tensor.size
    )  # fmt: skip
    return fixed + _DIMS[len(tensor.shape)].pack(*tensor.shape) + name


def pack_infer(number: int, request: Infer) -> bytes:
    model, version = request.model.encode(), request.version.encode()
    fixed = INFER.pack(
        len(model), len(version), len(request.inputs), len(request.outputs), request.deadline_ms, 0,
        request.answer_offset, request.answer_size,
    )  # fmt: skip
    names = [name.encode() for name in request.outputs]
    parts = [head(Kind.infer, number), fixed, model, version, *map(pack_tensor, request.inputs)]
    return b"".join([*parts, *(_LENGTH.pack(len(name)) + name for name in names)])


def read_infer(message: bytes) -> Infer:
    """Raises WrongInput where the message ends too early or says what cannot be."""
    reader = Reader(message, HEAD.size)
    model, version, inputs, outputs, deadline_ms, _, offset, size = reader.take(INFER)
    return Infer(
        reader.text(model),
        reader.text(version),
        tuple(reader.tensor() for _ in range(inputs)),
        tuple(reader.text(*reader.take(_LENGTH)) for _ in range(outputs)),
        offset,
        size,
        deadline_ms,
    )


class Reader:
    """Takes a message apart from `at` on. Raises WrongInput at its end."""

    def __init__(self, message: bytes | memoryview, at: int) -> None:
        self._message = message
        self.at = at

    def take(self, kind: Struct) -> tuple[int, ...]:
        try:
            values = kind.unpack_from(self._message, self.at)
        except error as fault:
            raise WrongInput(f"the message ends after {len(self._message)} bytes, in the middle") from fault
        self.at += kind.size
        return values

    def text(self, size: int) -> str:
        end = self.at + size
        if end > len(self._message):
            raise WrongInput(f"the message ends after {len(self._message)} bytes, in the middle of a name")
        try:
            text = str(self._message[self.at : end], "utf-8")
        except UnicodeDecodeError as fault:
            raise WrongInput("a name in the message is not UTF-8") from fault
        self.at = end
        return text

    def tensor(self) -> Tensor:
        code, rank, name_size, place, offset, size = self.take(TENSOR)
        if not 0 < code < len(DATATYPES):
            raise WrongInput(f"there is no datatype {code}; they go from 1 to {len(DATATYPES) - 1}")
        if place > Place.region:
            raise WrongInput(f"a tensor is in the message (0) or in the region (1), got {place}")
        if rank > MOST_DIMS:
            raise WrongInput(f"a tensor has {MOST_DIMS} dimensions at most, got {rank}")
        shape = self.take(_DIMS[rank])
        return Tensor(self.text(name_size), DATATYPES[code], shape, place, offset, size)
