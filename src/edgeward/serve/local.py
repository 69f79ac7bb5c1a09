"""The Unix socket: clients on this machine, whose tensors stay in memory that they share (docs/wire.md).

A client may die, lie or send rubbish at any byte: it is told one sentence where it can be, and no other notices.
"""

import asyncio
import contextlib
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
from collections import deque
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Failed, WrongInput, from_os_error
from edgeward.link import wire
from edgeward.link.wire import ALIGNMENT, MESSAGE_BYTES, Kind, Place, Tensor
from edgeward.serve import protocol
from edgeward.serve.catalog import Catalog
from edgeward.serve.frames import Frames
from edgeward.serve.intake import Limits, Refusal, refusal_of
from edgeward.serve.models import ServedModel
from edgeward.serve.running import Ran
from edgeward.serve.stats import Spent
from edgeward.serve.workers import returned

CONNECTIONS = 128
UNDER_WAY = 16
"""Requests of one client."""
_REGION_BYTES = 64 << 20
_ACCEPTED = 16
"""At once; those who are connected have their turn between."""
_SILENT_S = 10.0
_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_KNOWN = 32


class LocalServer:
    """Listens at `path` from `start` to `stop`."""

    def __init__(
        self, path: Path, catalog: Catalog, limits: Limits, *, group: int | None = None, frames: Frames | None = None
    ) -> None:
        self.path = path
        self.catalog = catalog
        self.frames = frames
        self.limits = limits
        self.clients: set[_Client] = set()
        self.stopping = False
        self._group = group
        self._listener = _listening(path, group)
        self._inode = path.stat().st_ino

    @property
    def region_bytes(self) -> int:
        return max(_REGION_BYTES, self.limits.held_bytes)

    def start(self) -> None:
        """Takes clients, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def stop(self) -> None:
        """No new clients and requests; returns when what is under way is answered."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self.stopping = True
        self.close()
        for client in tuple(self.clients):
            client.pause()
        while any(client.under_way for client in self.clients):
            await asyncio.sleep(0.01)
        for client in tuple(self.clients):
            client.close()

    def close(self) -> None:
        """The socket's name goes, unless another service has taken it over."""
        self._listener.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no file left: those who wait are taken when one comes free
                return
            connection.setblocking(False)
            client = _Client(self, connection)
            self.clients.add(client)
            if len(self.clients) > CONNECTIONS:
                client.end(503, f"{CONNECTIONS} clients are connected already; try again later")
            elif not _may_connect(connection, self._group):
                client.end(403, "this service takes its own user, root and the members of its group only")
            else:
                client.start()


class _Client:
    """One connection: what it shares with us, what it has asked and what waits to be sent to it."""

    def __init__(self, server: LocalServer, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._file = connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._region = memoryview(b"")
        self._greeted = False
        self._known: dict[bytes, _Known] = {}
        self._unsent: deque[bytes] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._running = 0

    @property
    def gone(self) -> bool:
        return self not in self._server.clients

    @property
    def under_way(self) -> int:
        return self._running + len(self._unsent)

    def start(self) -> None:
        self._loop.add_reader(self._file, self._read)
        self._watch = self._loop.call_later(_SILENT_S, self._is_silent)

    def pause(self) -> None:
        self._loop.remove_reader(self._file)

    def end(self, status: int, sentence: str) -> None:
        """Tells why, and closes."""
        with contextlib.suppress(OSError):
            self._socket.send(_error(0, status, sentence))
            while self._socket.recv(MESSAGE_BYTES):  # what is unread at the end would reset the connection
                pass
        self.close()

    def close(self) -> None:
        if self not in self._server.clients:
            return
        self._server.clients.discard(self)
        self._loop.remove_reader(self._file)
        self._loop.remove_writer(self._file)
        if self._watch is not None:
            self._watch.cancel()
        self._socket.close()
        self._region = memoryview(b"")  # unmapped when no request reads it any more
        self._unsent.clear()
        self._known.clear()

    def _is_silent(self) -> None:
        self.end(408, f"no hello came within {_SILENT_S:g} s")

    def _read(self) -> None:
        files: list[int] = []
        try:
            if self._greeted:
                message = self._socket.recv(MESSAGE_BYTES + 1)  # files that come with it are closed by the kernel
            else:
                message, files, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES + 1, 4)
            if not message:
                self.close()
            elif len(message) > MESSAGE_BYTES:
                self.end(413, f"a message has {MESSAGE_BYTES} bytes at most")
            elif self._greeted:
                self._take(message)
            else:
                self._greet(message, files)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
        except WrongInput as error:
            self.end(400, error.message)
        except Refusal as refusal:
            self.end(refusal.status, refusal.sentence)
        finally:
            for file in files:
                os.close(file)

    # --- the hello

    def _greet(self, message: bytes, files: list[int]) -> None:
        head = wire.read_head(message)
        if head.kind != Kind.hello:
            raise Refusal(400, f"the first message is a hello ({Kind.hello}), got {head.kind}")
        lowest, highest, _, size = wire.Reader(message, wire.HEAD.size).take(wire.HELLO)
        if not lowest <= wire.VERSION <= highest:
            raise Refusal(400, f"this service speaks version {wire.VERSION}, the client {lowest} to {highest}")
        self._region = _mapped(files, size, self._server.region_bytes)
        self._greeted = True
        if self._watch is not None:
            self._watch.cancel()
        self._watch = None
        welcome = wire.WELCOME.pack(wire.VERSION, UNDER_WAY, MESSAGE_BYTES, self._server.region_bytes)
        self._send(wire.head(Kind.welcome, head.number) + welcome)

    # --- requests

    def _take(self, message: bytes) -> None:
        head = wire.read_head(message)
        if self._running >= UNDER_WAY:
            self._send(_error(head.number, 503, f"{UNDER_WAY} requests of this client are under way already", 1))
            return
        match head.kind:
            case Kind.infer:
                self._infer(head.number, message)
            case Kind.describe:
                self._describe(head.number, message)
            case _:
                raise Refusal(400, f"a client asks for inference (5) or a description (3), got {head.kind}")

    def _describe(self, number: int, message: bytes) -> None:
        reader = wire.Reader(message, wire.HEAD.size)
        name, version = reader.take(wire.DESCRIBE)
        try:
            model = self._server.catalog.find(reader.text(name), reader.text(version))
        except Refusal as refusal:
            self._send(_error(number, refusal.status, refusal.sentence))
            return
        self._send(wire.head(Kind.description, number) + msgspec.json.encode(self._server.catalog.about(model)))

    def _infer(self, number: int, message: bytes) -> None:
        """Short work is answered before this returns; other work when the model's thread has done it."""
        began = perf_counter()
        body = message[wire.HEAD.size :]
        known = self._known.get(body)
        asked = wire.read_infer(message) if known is None else known.asked
        try:
            model = self._server.catalog.find(asked.model, asked.version)
        except Refusal as refusal:
            self._send(_error(number, refusal.status, refusal.sentence))
            return
        job = _Job(number, began, model, asked, self._region)
        model.stats.in_flight += 1
        try:
            if known is not None and known.signature is model.signature:
                request = known.request
            else:
                request = job.decode(message)
                self._keep(body, _Known(asked, model.signature, request))
            model.make_room(self._server.limits.waiting)
            decoded = perf_counter()
            ran = model.at_once(request.tensors, request.samples, self)
            if ran is not None:
                self._answer(job, request, ran, decoded - began)
                return
            finish = partial(self._finish, job, request, decoded - began)
            deadline_s = self._server.limits.deadline_s(began, job.timeout_us)
            model.begin(finish, request.tensors, request.samples, deadline_s, self)
            self._running += 1
        except Exception as error:  # noqa: BLE001 - a client gets a sentence, whatever it was
            self._refuse(job, error)

    def _keep(self, body: bytes, known: "_Known") -> None:
        """The same request comes again for each frame that lies where another lay before."""
        if not all(_is_stable(array) for array in known.request.tensors.values()):
            return
        if any(one.place == Place.message for one in known.asked.inputs):
            return
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[body] = known

    def _finish(self, job: "_Job", request: protocol.Request, pre_s: float, ran: Ran | BaseException) -> None:
        self._running -= 1
        try:
            self._answer(job, request, returned(ran), pre_s)
        except BaseException as error:  # noqa: BLE001 - the same
            self._refuse(job, error)

    def _answer(self, job: "_Job", request: protocol.Request, ran: Ran, pre_s: float) -> None:
        answered = perf_counter()
        message = job.encode(request, ran, pre_s)
        done = perf_counter()
        self._send(message)  # before what the client need not wait for
        model = job.model
        model.stats.in_flight -= 1
        model.stats.ended(200)
        model.stats.answered(
            Spent(pre_s + ran.pre_s, ran.infer_s, done - answered + ran.post_s, done - job.began), request.samples
        )
        if self._server.frames is not None:
            self._server.frames.saw(model, request, ran)

    def _refuse(self, job: "_Job", error: BaseException) -> None:
        refusal = refusal_of(error, job.model)
        job.model.stats.in_flight -= 1
        job.model.stats.ended(refusal.status)
        self._send(_error(job.number, refusal.status, refusal.sentence, refusal.retry_after_s))

    # --- sending

    def _send(self, message: bytes) -> None:
        if self not in self._server.clients:
            return
        self._unsent.append(message)
        if len(self._unsent) == 1 and not self._sent_all():
            self._wait_to_send()
        if len(self._unsent) == UNDER_WAY:
            self.pause()  # who reads no answers is asked for no more requests

    def _wait_to_send(self) -> None:
        if self in self._server.clients:
            self._loop.add_writer(self._file, self._send_rest)

    def _send_rest(self) -> None:
        if self._sent_all():
            self._loop.remove_writer(self._file)
            if not self._server.stopping:
                self._loop.add_reader(self._file, self._read)

    def _sent_all(self) -> bool:
        """Whether nothing waits any more; closes where the client is gone."""
        while self._unsent:
            try:
                self._socket.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.close()
                return False
            self._unsent.popleft()
        return True


class _Known(NamedTuple):
    """A request that came before, decoded for a model."""

    asked: wire.Infer
    signature: protocol.Signature
    request: protocol.Request


class _Job(NamedTuple):
    """A request for inference with what is needed to answer it; the client's region lives as long as it does."""

    number: int
    began: float
    model: ServedModel
    asked: wire.Infer
    region: memoryview

    @property
    def timeout_us(self) -> int:
        return self.asked.deadline_ms * 1000

    def decode(self, message: bytes) -> protocol.Request:
        """Raises WrongInput for what does not fit the model, or is not where the client says."""
        signature, tensors = self.model.signature, dict[str, NDArray[Any]]()
        count = 0
        for one in self.asked.inputs:
            port, elements = protocol.check(one.name, one.datatype, one.shape, signature, tensors)
            source = self.region if one.place == Place.region else message
            if one.offset + one.size > len(source):
                where = "region" if one.place == Place.region else "message"
                told = f"ends at byte {one.offset + one.size}, the {where} has {len(source)}"
                raise WrongInput(f"input {one.name!r} {told}")
            if port.datatype == "BYTES":
                source = bytes(source[one.offset : one.offset + one.size])
                tensor = protocol.raw_tensor(source, 0, one.size, one.shape, port, elements)
            else:
                tensor = protocol.raw_tensor(source, one.offset, one.size, one.shape, port, elements)
                if not _is_stable(tensor):
                    tensor = tensor.copy()
            if count not in (0, one.shape[0]):
                raise WrongInput(f"input {one.name!r} has {one.shape[0]} samples, the others have {count}")
            tensors[one.name], count = tensor, one.shape[0]
        missing = next((name for name in signature.inputs if name not in tensors), None)
        if missing is not None:
            raise WrongInput(f"input {missing!r} is missing")
        return protocol.Request(
            msgspec.UNSET, tensors, count, protocol.wanted_raw([*map(protocol.Asked, self.asked.outputs)], signature)
        )

    def encode(self, request: protocol.Request, ran: Ran, pre_s: float) -> bytes:
        """The answer message; outputs in the answer space are written there."""
        outputs = [(wanted.name, ran.outputs[wanted.name]) for wanted in request.outputs]
        times = (int(1e6 * seconds) for seconds in (pre_s + ran.pre_s, ran.infer_s, ran.post_s))
        fixed = wire.head(Kind.answer, self.number) + wire.ANSWER.pack(len(outputs), 0, *times)
        if self.asked.answer_size:
            return b"".join((fixed, *self._in_region(outputs)))
        return self._inline(fixed, outputs)

    def _in_region(self, outputs: list[tuple[str, NDArray[Any]]]) -> list[bytes]:
        start, size = self.asked.answer_offset, self.asked.answer_size
        if start + size > len(self.region):
            told = f"ends at byte {start + size}, the region has {len(self.region)}"
            raise WrongInput(f"the answer space {told}")
        at, described = start, []
        for name, array in outputs:
            at = -(-at // ALIGNMENT) * ALIGNMENT
            data = _bytes_of(array)
            if at + len(data) > start + size:
                needed = sum(ALIGNMENT + len(_bytes_of(array)) for _, array in outputs)
                raise Refusal(413, f"the answer space has {size} bytes, the outputs take up to {needed}")
            self.region[at : at + len(data)] = data
            described.append(_told(name, array, Place.region, at, len(data)))
            at += len(data)
        return described

    def _inline(self, fixed: bytes, outputs: list[tuple[str, NDArray[Any]]]) -> bytes:
        parts = [bytes(_bytes_of(array)) for _, array in outputs]
        empty = [_told(name, array, Place.message, 0, 0) for name, array in outputs]
        at = len(fixed) + sum(map(len, empty))
        if at + sum(map(len, parts)) > MESSAGE_BYTES:
            raise Refusal(
                413,
                f"the outputs have {sum(map(len, parts))} bytes and a message {MESSAGE_BYTES}; give an answer space",
            )
        described = []
        for (name, array), part in zip(outputs, parts, strict=True):
            described.append(_told(name, array, Place.message, at, len(part)))
            at += len(part)
        return b"".join((fixed, *described, *parts))


def _is_stable(tensor: NDArray[Any]) -> bool:
    """Whether it is read where the client can still change it: no number of its kind is an index into anything."""
    return tensor.dtype.kind == "f" or (tensor.dtype.kind in "ui" and tensor.itemsize == 1)


def _told(name: str, array: NDArray[Any], place: Place, offset: int, size: int) -> bytes:
    return wire.pack_tensor(Tensor(name, protocol.datatype_of(array), array.shape, place, offset, size))


def _bytes_of(array: NDArray[Any]) -> memoryview | bytes:
    if array.dtype.kind == "O":
        return protocol.to_binary(array)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _error(number: int, status: int, sentence: str, retry_after_s: int = 0) -> bytes:
    return wire.head(Kind.error, number, status) + wire.ERROR.pack(retry_after_s) + sentence.encode()[:4096]


def _mapped(files: list[int], size: int, most: int) -> memoryview:
    """The client's region. Raises Refusal unless it is a memory file that can never become shorter than it is now:
    reading behind a file's end would kill this process."""
    if size == 0 and not files:
        return memoryview(b"")
    if len(files) != 1:
        raise Refusal(400, f"a hello brings one file for its region, got {len(files)}")
    if not 0 < size <= most:
        raise Refusal(413, f"a region has 1 to {most} bytes, this one {size}")
    try:
        seals = fcntl.fcntl(files[0], fcntl.F_GET_SEALS)
    except OSError as error:
        raise Refusal(400, "the file of a region comes from memfd_create with MFD_ALLOW_SEALING") from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise Refusal(400, "the file of a region is sealed with F_SEAL_SHRINK")
    if (has := os.fstat(files[0]).st_size) < size:
        raise Refusal(400, f"the region is said to have {size} bytes, its file has {has}")
    try:
        return memoryview(mmap.mmap(files[0], size))
    except OSError as error:
        raise Refusal(400, f"the region cannot be mapped to be read and written: {error.strerror}") from error


def _may_connect(connection: socket.socket, group: int | None) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, own_group = _CREDENTIALS.unpack(credentials)
    return user in (0, os.geteuid()) or (group is not None and group in (own_group, *_groups_of(connection)))


def _groups_of(connection: socket.socket) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 4096)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _listening(path: Path, group: int | None) -> socket.socket:
    """A listening socket that only its owner, and `group` where given, may connect to.

    A name that a service left behind when it was killed is taken over. Raises Failed where one still listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        _clear(path)
        listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o660)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno is None or "too long" in str(error):
            raise WrongInput(f"{path}: a socket's path has 107 bytes at most", hint="--socket /run/…") from error
        if error.errno == errno.EADDRINUSE:
            raise WrongInput(f"{path}: exists already and is no socket of a service that ended") from error
        error.filename = str(path)
        raise from_os_error(error) from error
    except Failed:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _clear(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
            except OSError as error:
                if error.errno == errno.EPROTOTYPE:
                    return
                raise
        raise Failed(f"{path}: another service listens here", hint="--socket with another path")
