"""Tar archives with the same bytes for the same files, whoever writes them and when."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from edgeward.kit.files import new_file

EPOCH = 1_577_836_800
"""The time of every file, 1 January 2020: when a file was written tells nothing that its digest does not."""


FORMAT = "gnu-1"
"""Changes where the bytes of the same files do. dpkg reads no other headers than GNU's."""


class Entry(NamedTuple):
    """A file; a folder, where the path ends with a slash; a link, where `link` is given. The folders above it need not
    be named."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str | None = None


class Archive(NamedTuple):
    """A written archive: its digest and size, and the digest of the tar in it, as OCI layers are named."""

    path: Path
    digest: str
    size: int
    inner: str


def tar(entries: Iterable[Entry]) -> bytes:
    """Sorted, owned by root, all of one time; folders before what is in them."""
    buffer = io.BytesIO()
    _write(buffer, entries)
    return buffer.getvalue()


def tar_gz(entries: Iterable[Entry], path: Path) -> Archive:
    """Writes `path` whole or not at all."""
    with new_file(path) as file:
        written = _Hashing(file)
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=written, mtime=0) as packed:
            inner = _Hashing(packed)
            _write(inner, entries)
    return Archive(path, written.digest, written.size, inner.digest)


def gz(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=buffer, mtime=0) as packed:
        packed.write(data)
    return buffer.getvalue()


class _Hashing:
    """Writes on, and remembers the digest and length of what it wrote."""

    def __init__(self, file: "BinaryIO | gzip.GzipFile") -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def _write(file: "io.BytesIO | _Hashing", entries: Iterable[Entry]) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        made = set[PurePosixPath]()
        for entry in sorted(entries):
            for folder in reversed(PurePosixPath(entry.path).parents[:-1]):
                if folder not in made:
                    archive.addfile(_header(str(folder), 0o755, tarfile.DIRTYPE))
                    made.add(folder)
            if entry.path.endswith("/"):
                archive.addfile(_header(entry.path.rstrip("/"), entry.mode, tarfile.DIRTYPE))
                made.add(PurePosixPath(entry.path))
            elif entry.link is None:
                head = _header(entry.path, entry.mode, tarfile.REGTYPE)
                head.size = len(entry.data)
                archive.addfile(head, io.BytesIO(entry.data))
            else:
                head = _header(entry.path, 0o777, tarfile.SYMTYPE)
                head.linkname = entry.link
                archive.addfile(head)


def _header(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    head = tarfile.TarInfo(path)
    head.mode, head.type, head.mtime = mode, kind, EPOCH
    head.uname = head.gname = "root"
    return head


def entries_of(path: Path) -> Iterator[Entry]:
    """The files and links of an archive that `tar_gz` wrote."""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.issym():
                yield Entry(member.name, link=member.linkname)
            elif (file := archive.extractfile(member)) is not None:
                yield Entry(member.name, file.read(), member.mode)
