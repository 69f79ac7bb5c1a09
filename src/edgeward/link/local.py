"""A client for the service on the same machine: tensors go through shared memory, uncopied.

    with LocalClient("/run/edgeward/serve.sock") as client:
        frame = client.array((1, 640, 640, 3), "uint8")     # in shared memory: let the camera write into it
        answer = client.infer("detector", {"image": frame})

One thread at a time may use a client. docs/wire.md has the bytes, for other languages.
"""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeward.kit.errors import EdgewardError, Failed, Refused, Unavailable, WrongInput, from_os_error
from edgeward.link import wire
from edgeward.link.wire import ALIGNMENT, MAGIC, Kind, Place, Tensor

REGION_BYTES = 16 << 20
_ANSWER_BYTES = 4 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_KNOWN = 32
_HEAD = wire.HEAD.pack
_KINDS = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64", "i1": "INT8", "i2": "INT16",
    "i4": "INT32", "i8": "INT64", "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip
_DTYPES = {name: np.dtype(f"<{kind}") for kind, name in _KINDS.items()}


class Answer(NamedTuple):
    """The outputs by name, samples on the first axis, and where the service's time went (milliseconds)."""

    outputs: dict[str, NDArray[Any]]
    pre_ms: float
    infer_ms: float
    post_ms: float


class LocalClient:
    """A connection and a shared region of `region_bytes`, `answer_bytes` of which are for what comes back.

    Raises Unavailable where nobody listens at `path`, and Refused where this user may not connect.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        region_bytes: int = REGION_BYTES,
        answer_bytes: int = _ANSWER_BYTES,
        timeout_s: float = 60.0,
    ) -> None:
        self._path = os.fspath(path)
        self._number = 0
        self._answer_at = region_bytes - answer_bytes
        self._answer_bytes = answer_bytes
        self._used = 0
        self._known: dict[tuple[Any, ...], tuple[bytes, tuple[Any, ...]]] = {}
        self._buffer = bytearray(wire.MESSAGE_BYTES)
        self._view = memoryview(self._buffer)
        self._socket = _connected(self._path, timeout_s)
        try:
            region = _region(region_bytes)
            try:
                self._map = mmap.mmap(region, region_bytes)
                self._greet(region, region_bytes)
            finally:
                os.close(region)
        except BaseException:
            self._socket.close()
            raise
        self._region = memoryview(self._map)
        self._memory = np.frombuffer(self._map, np.uint8)
        self._address = self._memory.__array_interface__["data"][0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Arrays in the region stay readable as long as somebody holds them."""
        self._socket.close()

    def array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """A new array in shared memory, for this client's life; sent without a copy. WrongInput where none is left."""
        kind = np.dtype(dtype)
        array, self._used = self._place(tuple(shape), kind, self._used)
        return array

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        deadline_ms: int = 0,
    ) -> Answer:
        """The model's answer; the first axis of every input is the samples. Inputs that are no array of this client's
        are copied. Past `deadline_ms` a request that has not begun is refused.

        Raises WrongInput where the request does not fit the model, Unavailable where the service is busy or gone.
        """
        self._number += 1
        key = (model, version, deadline_ms, *outputs, *inputs, *map(id, inputs.values()))
        known = self._known.get(key)
        tail = self._told_anew(key, inputs, deadline_ms) if known is None else known[0]
        return self._answer(self._asked(_HEAD(MAGIC, Kind.infer, 0, self._number) + tail, Kind.answer))

    def describe(self, model: str, version: str = "") -> dict[str, Any]:
        """What goes in and out of a model, as GET /v2/models/MODEL tells it."""
        self._number += 1
        name, number = model.encode(), version.encode()
        sizes = wire.DESCRIBE.pack(len(name), len(number))
        reply = self._asked(wire.head(Kind.describe, self._number) + sizes + name + number, Kind.description)
        about: dict[str, Any] = json.loads(bytes(reply[wire.HEAD.size :]))
        return about

    def _greet(self, region: int, size: int) -> None:
        hello = wire.head(Kind.hello, 0) + wire.HELLO.pack(wire.VERSION, wire.VERSION, 0, size)
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self._socket, [hello], [region])
        self._received(0, Kind.welcome)

    def _asked(self, message: bytes, wanted: Kind) -> memoryview:
        if len(message) > wire.MESSAGE_BYTES:
            raise WrongInput(f"the request is {len(message)} bytes without its tensors; {wire.MESSAGE_BYTES} at most")
        try:
            self._socket.send(message)
        except BrokenPipeError:
            pass  # what it said before it closed can still be read
        except OSError as error:
            raise self._ended(error) from error
        return self._received(self._number, wanted)

    def _received(self, number: int, wanted: Kind) -> memoryview:
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except OSError as error:
                size = self._again(error)
            if size < wire.HEAD.size:
                raise Unavailable(f"{self._path}: the service has ended the connection")
            _, kind, status, about = wire.HEAD.unpack_from(self._buffer)
            if kind == Kind.error and about in (number, 0):
                raise _fault(status, bytes(self._view[:size]))
            if about == number and kind == wanted:
                return self._view[:size]

    def _again(self, error: OSError) -> int:
        """A reset is told once; what was sent before it can be read behind it."""
        if not isinstance(error, ConnectionError):
            raise self._ended(error) from error
        try:
            return self._socket.recv_into(self._buffer)
        except OSError as other:
            raise self._ended(other) from other

    def _ended(self, error: OSError) -> EdgewardError:
        """Ends the connection: after a time-out a late answer would be written over the next one's."""
        self.close()
        if isinstance(error, TimeoutError):
            return Unavailable(f"{self._path}: the service did not answer in time")
        if isinstance(error, ConnectionError) or error.errno == errno.EBADF:
            return Unavailable(f"{self._path}: the service has ended the connection")
        error.filename = self._path
        return from_os_error(error)

    def _told_anew(self, key: tuple[Any, ...], inputs: Mapping[str, Any], deadline_ms: int) -> bytes:
        """The request without its head; kept where its arrays are shared: a camera's frames come in few places."""
        model, version, _, *names = key
        outputs = names[: len(names) - 2 * len(inputs)]
        at, tensors, shared = self._used, [], True
        for name, value in inputs.items():
            tensor, end = self._sent(name, np.asarray(value), at)
            shared = shared and end == at and isinstance(value, np.ndarray)
            at = end
            tensors.append(tensor)
        request = wire.Infer(
            model, version, tuple(tensors), tuple(outputs), self._answer_at, self._answer_bytes, deadline_ms
        )
        tail = wire.pack_infer(0, request)[wire.HEAD.size :]
        if shared:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = tail, tuple(inputs.values())  # which keeps their ids from meaning others
        return tail

    def _sent(self, name: str, array: NDArray[Any], at: int) -> tuple[Tensor, int]:
        """How `array` is told, and where the next one may be copied to."""
        if array.dtype.kind in "OUS":
            data = b"".join(struct.pack("<I", len(text)) + text for text in map(_text, array.ravel()))
            flat, end = self._place((len(data),), np.dtype(np.uint8), at)
            flat[:] = np.frombuffer(data, np.uint8)
            return self._told_of(name, "BYTES", array.shape, flat), end
        datatype = _KINDS.get(array.dtype.str[1:])
        if datatype is None:
            raise WrongInput(f"input {name!r} is {array.dtype}, which the service has no number for")
        if not self._is_shared(array):
            copied, at = self._place(array.shape, _DTYPES[datatype], at)
            np.copyto(copied, array)
            array = copied
        return self._told_of(name, datatype, array.shape, array), at

    def _told_of(self, name: str, datatype: str, shape: tuple[int, ...], array: NDArray[Any]) -> Tensor:
        offset = array.__array_interface__["data"][0] - self._address
        return Tensor(name, datatype, shape, Place.region, offset, array.nbytes)

    def _is_shared(self, array: NDArray[Any]) -> bool:
        start = array.__array_interface__["data"][0] - self._address
        return 0 <= start <= self._answer_at - array.nbytes and array.flags.c_contiguous and array.dtype.isnative

    def _place(self, shape: tuple[int, ...], kind: np.dtype[Any], at: int) -> tuple[NDArray[Any], int]:
        start = -(-at // ALIGNMENT) * ALIGNMENT
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if start + size > self._answer_at:
            raise WrongInput(
                f"the shared region has {max(0, self._answer_at - start)} bytes left for tensors, this one is {size}",
                hint="LocalClient(path, region_bytes=…)",
            )
        return self._memory[start : start + size].view(kind).reshape(shape), start + size

    def _answer(self, message: memoryview) -> Answer:
        reader = wire.Reader(message, wire.HEAD.size)
        count, _, pre_us, infer_us, post_us = reader.take(wire.ANSWER)
        outputs = {}
        for _ in range(count):
            name, datatype, shape, place, offset, size = reader.tensor()
            data = bytes((self._region if place else message)[offset : offset + size])
            kind = _DTYPES.get(datatype)
            outputs[name] = _texts(data, shape) if kind is None else np.frombuffer(data, kind).reshape(shape)
        return Answer(outputs, pre_us / 1e3, infer_us / 1e3, post_us / 1e3)


def _connected(path: str, timeout_s: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Python's own time-out would not wait where many connect at once.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout_s), 0))
    try:
        made.connect(path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        made.close()
        raise Unavailable(f"{path}: no service listens here", hint=f"edgeward serve BUNDLE --socket {path}") from error
    except PermissionError as error:
        made.close()
        raise Refused(f"{path}: this user may not use the service", hint=f"ls -l {path}") from error
    except BlockingIOError as error:
        made.close()
        raise Unavailable(f"{path}: the service takes no clients now") from error
    except OSError as error:
        made.close()
        error.filename = path
        raise from_os_error(error) from error
    made.settimeout(timeout_s)
    return made


def _region(size: int) -> int:
    """A memory file of a size that nobody can change: the service reads it without fear of a fault."""
    region = os.memfd_create("edgeward-client", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(region, size)
        fcntl.fcntl(region, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(region)
        raise
    return region


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _texts(raw: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    at, texts = 0, []
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, object).reshape(shape)


def _fault(status: int, message: bytes) -> EdgewardError:
    sentence = message[wire.HEAD.size + wire.ERROR.size :].decode(errors="replace")
    match status:
        case 403:
            return Refused(sentence)
        case 408 | 429 | 503 | 504:
            return Unavailable(sentence)
        case _ if status < 500:
            return WrongInput(sentence)
        case _:
            return Failed(sentence)
