"""Bytes by digest, laid out on disk as an OCI image layout has them: blobs/sha256/HEX."""

import hashlib
import os
import tempfile
from pathlib import Path

from edgeward.kit.codec import digest_of
from edgeward.kit.errors import Refused
from edgeward.kit.files import sync_folder


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
        handle, temporary = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        return digest

    def get(self, digest: str, size_bytes: int) -> bytes:
        """The bytes of `digest`, checked. Raises Refused when they are missing, of another length or altered."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(size_bytes + 1)
                found = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise Refused(f"{path}: this blob is missing from the bundle") from None
        if found != size_bytes:
            how = "truncated" if found < size_bytes else "longer than it was"
            raise Refused(f"{path}: {how}: {found} bytes, wanted {size_bytes}")
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise Refused(f"{path}: altered: its bytes no longer match the digest that names it")
        return data
