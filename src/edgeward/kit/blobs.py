"""Bytes by digest, laid out on disk as an OCI image layout has them: blobs/sha256/HEX."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edgeward.kit.codec import digest_of
from edgeward.kit.errors import Refused
from edgeward.kit.files import open_regular, write_atomic

_CHUNK_BYTES = 1 << 20


class Blobs:
    """A store of immutable bytes under `root`. Putting the same bytes twice is harmless."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Where the bytes of `digest` stand or would stand."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise Refused(f"{digest!r} is no digest; wanted sha256: and 64 hexadecimal digits")
        return self._root / "blobs" / algorithm / value

    def put(self, data: bytes) -> str:
        """Stores `data` and returns its digest."""
        digest = digest_of(data)
        path = self.path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        return digest

    def get(self, digest: str, size_bytes: int) -> bytes:
        """The bytes of `digest`, checked. Raises Refused when they are missing, of another length or altered."""
        data = b"".join(self._chunks(digest, size_bytes, size_bytes))
        if digest_of(data) != digest:
            raise _altered(self.path(digest))
        return data

    def check(self, digest: str, size_bytes: int) -> None:
        """Raises what `get` raises, and keeps none of the bytes in memory."""
        hasher = hashlib.sha256()
        for chunk in self._chunks(digest, size_bytes, _CHUNK_BYTES):
            hasher.update(chunk)
        if "sha256:" + hasher.hexdigest() != digest:
            raise _altered(self.path(digest))

    def _chunks(self, digest: str, size_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
        """`size_bytes` in all, from a regular file of that length; never a byte past it."""
        path = self.path(digest)
        try:
            file = open_regular(path)
        except FileNotFoundError:
            raise Refused(f"{path}: this blob is missing from the bundle") from None
        with file:
            found = os.fstat(file.fileno()).st_size
            if found != size_bytes:
                how = "truncated" if found < size_bytes else "longer than it was"
                raise Refused(f"{path}: {how}: {found} bytes, wanted {size_bytes}")
            left = size_bytes
            while left and (chunk := file.read(min(left, chunk_bytes))):
                left -= len(chunk)
                yield chunk


def _altered(path: Path) -> Refused:
    return Refused(f"{path}: altered: its bytes no longer match the digest that names it")
