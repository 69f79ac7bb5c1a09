"""The layout of a sample in shared memory, for a program that makes samples on this machine (docs/pipelines.md).

A file of /dev/shm: a head of 64 bytes, then the bytes of the model's tensor. `sequence` is odd while the writer is at
work and even when it is done: who reads looks before and after.
"""

import mmap
import os
import struct
from pathlib import Path
from time import monotonic_ns

from edgeward.kit.errors import Unavailable

MAGIC = b"EDGEWARD"
HEAD = struct.Struct("<8sQQQ")
"""Magic, sequence, capture time (CLOCK_MONOTONIC, nanoseconds), bytes of the sample; little-endian, at offset 0."""
HEAD_BYTES = 64
FOLDER = Path("/dev/shm")  # noqa: S108 - it is what POSIX shared memory is on Linux


class Writer:
    """Puts samples of up to `size` bytes into the shared memory `name`. One program writes."""

    def __init__(self, name: str, size: int) -> None:
        self._path = FOLDER / name
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, HEAD_BYTES + size)
            self._memory = mmap.mmap(descriptor, HEAD_BYTES + size)
        finally:
            os.close(descriptor)
        self._sequence = 0
        HEAD.pack_into(self._memory, 0, MAGIC, 0, 0, 0)

    def write(self, data: bytes) -> None:
        self._sequence += 1
        struct.pack_into("<Q", self._memory, 8, self._sequence)
        self._memory[HEAD_BYTES : HEAD_BYTES + len(data)] = data
        struct.pack_into("<QQ", self._memory, 16, monotonic_ns(), len(data))
        self._sequence += 1
        struct.pack_into("<Q", self._memory, 8, self._sequence)

    def close(self) -> None:
        self._memory.close()
        self._path.unlink(missing_ok=True)


class Reader:
    """Takes samples out. Raises Unavailable where there is no such memory, or none of this layout."""

    def __init__(self, name: str) -> None:
        self._shown = f"shm://{name}"
        try:
            descriptor = os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            told = getattr(error, "strerror", None) or str(error)
            raise Unavailable(f"{self._shown}: cannot be opened ({told})") from error
        try:
            self._inode = os.fstat(descriptor).st_ino
            self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self._shown}: is empty") from error
        finally:
            os.close(descriptor)
        self._path = FOLDER / name
        if len(self._memory) < HEAD_BYTES or self._memory[:8] != MAGIC:
            raise Unavailable(f"{self._shown}: has not the layout that edgeward reads")

    def read(self, last: int) -> tuple[int, float, bytes] | None:
        """Sequence, capture time in seconds and bytes of a sample newer than `last`; None where there is none now."""
        _, sequence, captured_ns, size = HEAD.unpack_from(self._memory, 0)
        if sequence == last or sequence % 2:
            return None
        if size > len(self._memory) - HEAD_BYTES:
            raise Unavailable(f"{self._shown}: says {size} bytes and has {len(self._memory) - HEAD_BYTES}")
        data = self._memory[HEAD_BYTES : HEAD_BYTES + size]
        if HEAD.unpack_from(self._memory, 0)[1] != sequence:
            return None  # the writer came in between
        return sequence, captured_ns / 1e9, data

    def is_current(self) -> bool:
        """Whether the name still stands for this memory: a writer that starts anew makes another."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False
