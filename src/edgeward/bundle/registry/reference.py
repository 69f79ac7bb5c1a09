"""How a bundle in a registry or a layout is named."""

import re
from pathlib import Path
from typing import NamedTuple

from edgeward.kit.errors import WrongInput

_HOST = r"(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE = re.compile(
    rf"(?P<host>{_HOST})/(?P<name>{_NAME})(?::(?P<tag>[\w][\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")


class Reference(NamedTuple):
    """HOST/NAME:TAG@DIGEST of a registry. Where a digest is given, the tag is for people alone."""

    host: str
    name: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, or the tag, or "latest"."""
        return self.digest or self.tag or "latest"

    @property
    def is_near(self) -> bool:
        """Whether the registry is on this machine's loopback, where nobody listens between."""
        return _LOOPBACK.fullmatch(re.sub(r":\d+$", "", self.host)) is not None


class Place(NamedTuple):
    """A layout on a disk or stick; `tag` chooses among what it lists."""

    folder: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.folder}{f':{self.tag}' if self.tag else ''}"


def parse(text: str) -> Reference | Place:
    """HOST[:PORT]/NAME[:TAG][@sha256:…], oci:FOLDER[:TAG], or a folder. Raises WrongInput for what is none of them."""
    if text.startswith("oci:"):
        folder, _, tag = text.removeprefix("oci:").rpartition(":")
        return Place(Path(folder), tag) if folder and "/" not in tag else Place(Path(text.removeprefix("oci:")))
    if text.startswith(("/", "./", "../", "~")) or (text and Path(text).is_dir()):
        return Place(Path(text).expanduser())
    found = _REFERENCE.fullmatch(text)
    if found is not None and (any(mark in found["host"] for mark in ".:") or found["host"] == "localhost"):
        return Reference(found["host"], found["name"], found["tag"], found["digest"])
    raise WrongInput(
        f"{text!r} names no bundle in a registry; wanted HOST/NAME:TAG, such as registry.example/digits:1",
        hint="a folder's path is written ./FOLDER or oci:FOLDER",
    )
