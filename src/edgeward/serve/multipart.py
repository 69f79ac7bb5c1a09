"""A stream of parts, as cameras send pictures over HTTP (multipart/x-mixed-replace)."""

import re

from edgeward.kit.errors import Unavailable


def boundary_of(content_type: str) -> bytes | None:
    """What stands between the parts; None where it is no such stream."""
    if not content_type.lower().lstrip().startswith("multipart/"):
        return None
    found = re.search(r"boundary=\"?([^\";]+)", content_type, re.IGNORECASE)
    return found.group(1).strip().removeprefix("--").encode() if found else None


class Parts:
    """Takes the stream as it comes, and gives each part that is whole. Not every camera says how long a part is."""

    def __init__(self, boundary: bytes, most_bytes: int) -> None:
        self._line = b"--" + boundary
        self._most_bytes = most_bytes
        self._waiting = b""

    def add(self, data: bytes, where: str) -> list[bytes]:
        """Raises Unavailable for a part that is too large: the stream cannot be read on."""
        self._waiting += data
        parts = []
        while (part := self._next()) is not None:
            parts.append(part)
        if len(self._waiting) > self._most_bytes + 65536:
            self._waiting = b""
            raise Unavailable(f"{where}: a part is larger than {self._most_bytes} bytes; see most_bytes")
        return [part for part in parts if part]

    def _next(self) -> bytes | None:
        start = self._waiting.find(self._line)
        head_end = self._waiting.find(b"\r\n\r\n", start) if start >= 0 else -1
        if head_end < 0:
            return None
        body = head_end + 4
        said = re.search(rb"(?i)content-length:[ \t]*(\d{1,12})", self._waiting[start:head_end])
        if said:
            end = body + int(said.group(1))
            if len(self._waiting) < end:
                return None
        else:
            end = self._waiting.find(b"\r\n" + self._line, body)
            if end < 0:
                return None
        part, self._waiting = self._waiting[body:end], self._waiting[end:]
        return part
