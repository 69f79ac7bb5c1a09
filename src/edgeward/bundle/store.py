"""Where a machine keeps its bundles: each in a folder named by its digest, and a link for each service to its own.

Every step leaves whole folders and links behind, so a power cut or a repeat is harmless.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeward.bundle.checking import check
from edgeward.bundle.keys import Trust
from edgeward.kit import files
from edgeward.kit.errors import Refused, Unavailable

STORE = Path("/var/lib/edgeward")
_BLOB = re.compile(r"[0-9a-f]{64}")


class Store:
    """Bundles below `root`: bundles/sha256-…, and services/NAME/current, a link to one of them."""

    def __init__(self, root: Path = STORE) -> None:
        self.root = root

    def link_of(self, name: str) -> Path:
        """The link that the service `name` opens."""
        return self.root / "services" / name / "current"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While the `with` lasts, nobody else changes it. Raises Unavailable where somebody does."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Unavailable(f"{self.root}: another deploy is under way", hint="wait for it to end") from None
        finally:
            os.close(descriptor)

    def put(self, folder: Path, trust: Trust) -> str:
        """Copies the bundle in `folder` here, and verifies the copy before it gets its name; its digest."""
        digest = check(folder, trust).digest
        place = self.folder_of(digest)
        if place.exists():
            try:
                return check(place, trust).digest
            except Refused:  # damaged, or signed by another key: it is put anew
                pass
        with files.new_folder(place, overwrite=True) as work:
            _copy(folder, work)
            if check(work, trust).digest != digest:
                raise Refused(f"{folder}: changed while it was copied")
        return digest

    def adopt(self, folder: Path, digest: str) -> None:
        """Takes a folder of this file system over, whole and checked, as the bundle of `digest`."""
        files.sync_tree(folder)
        self.folder_of(digest).parent.mkdir(parents=True, exist_ok=True)
        files.take_name(folder, self.folder_of(digest))

    def blobs(self) -> "NearBlobs":
        """What the bundles here hold, for one that shares some of it."""
        return NearBlobs(self.root)

    def used_bytes(self) -> int:
        """What bundles take on the disk."""
        return sum(path.stat().st_size for path in self.root.glob("bundles/*/blobs/sha256/*"))

    def folder_of(self, digest: str) -> Path:
        return self.root / "bundles" / digest.replace(":", "-")

    def switch(self, name: str, digest: str | None, second: str | None = None, *, remember: bool = True) -> None:
        """Lets the service's link lead to the bundle of `digest`, in one step; None takes the link away. `second` is
        one that it needs, too. The one before is kept to go back to, unless it is not to be remembered."""
        link = self.link_of(name)
        before = self.current(name)
        if remember and digest is not None and before != digest:
            self.remember(name, before)
        if digest is None:
            shutil.rmtree(link.parent, ignore_errors=True)
            return
        self._lead(link.with_name("second"), second)
        self._lead(link, digest)

    def remember(self, name: str, digest: str | None) -> None:
        """Keeps the bundle of `digest` to go back to."""
        if digest is not None:
            self._lead(self.link_of(name).with_name("previous"), digest)

    def _lead(self, link: Path, digest: str | None) -> None:
        if digest is None:
            link.unlink(missing_ok=True)
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        beside = link.with_name(f".{link.name}.partial")
        beside.unlink(missing_ok=True)
        beside.symlink_to(Path("../..") / "bundles" / digest.replace(":", "-"))
        beside.replace(link)
        files.sync_folder(link.parent)

    def current(self, name: str) -> str | None:
        """The digest that the service's link leads to, None where it has none."""
        return self._led_to(self.link_of(name))

    def previous(self, name: str) -> str | None:
        """The digest that it led to before; None where there is none to go back to."""
        found = self._led_to(self.link_of(name).with_name("previous"))
        return found if found is not None and self.folder_of(found).exists() else None

    def second(self, name: str) -> str | None:
        """The digest of the other bundle that the service needs, None where it needs one alone."""
        return self._led_to(self.link_of(name).with_name("second"))

    def _led_to(self, link: Path) -> str | None:
        return link.readlink().name.replace("-", ":") if link.is_symlink() else None

    def services(self) -> tuple[str, ...]:
        return tuple(sorted(link.parent.name for link in self.root.glob("services/*/current")))

    def prune(self) -> None:
        """Removes the bundles that no service's link leads to, now or before, and what was left half-way."""
        used = {one for name in self.services() for one in (self.current(name), self.second(name), self.previous(name))}
        for folder in self.root.glob("bundles/sha256-*"):
            if folder.name.replace("-", ":") not in used:
                gone = folder.with_name(f".gone-{folder.name}")
                shutil.rmtree(gone, ignore_errors=True)
                folder.rename(gone)  # a bundle is whole while it has its name
        for gone in self.root.glob("bundles/.gone-*"):
            shutil.rmtree(gone, ignore_errors=True)


def _copy(layout: Path, work: Path) -> None:
    """The layout's own files, and no links."""
    blobs = layout / "blobs" / "sha256"
    (work / "blobs" / "sha256").mkdir(parents=True)
    names = sorted(blob.name for blob in blobs.iterdir() if _BLOB.fullmatch(blob.name))
    for path in ("oci-layout", "index.json", *(f"blobs/sha256/{name}" for name in names)):
        with files.open_regular(layout / path) as source, (work / path).open("wb") as copy:
            shutil.copyfileobj(source, copy)
            (work / path).chmod(0o644)


class NearBlobs:
    """The blobs of all bundles of a store; who reads one checks it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, digest: str) -> Path | None:
        return next(self._root.glob(f"bundles/sha256-*/blobs/{digest.replace(':', '/')}"), None)
