"""The frames of another process, read from its memory file (infer/markers.py)."""

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import markers
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.measure import sysfs

_ANY_LAYOUT = "/memfd:edgeward-frames-"
_MINE = f"/memfd:{markers.NAME}"

NUMBER, BEGAN, TOOK, DELAY, MINOR, MAJOR, INVOLUNTARY, VOLUNTARY = range(8)
"""The columns of a frame."""
MARKED = DELAY
"""With MARKS, what the marks took."""


class FrameRing:
    """A process's frames. Nothing is asked of it any more when the `with` block ends.

    Raises WrongInput where there is no such process, it is somebody else's, or it marks no inferences.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._file = os.open(_place(pid), os.O_RDWR)
        self._map = mmap.mmap(self._file, markers.SIZE_BYTES)
        self._words = np.frombuffer(self._map, np.uint64)
        self._slots = self._words[markers.HEAD_WORDS :].reshape(markers.SLOTS, markers.SLOT_WORDS)
        self._taken = int(self._words[markers.WRITTEN])
        self.lost = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ask(0)
        os.close(self._file)

    def ask(self, what: int) -> None:
        """From now on frames are recorded with `what` (a sum of TIMES, MARKS and FACTS); 0 ends it."""
        self._words[markers.ASKED] = what

    def asked(self) -> int:
        return int(self._words[markers.ASKED])

    def take(self) -> NDArray[np.int64]:
        """The frames since the last call, one a row; those that were overwritten meanwhile count as `lost`."""
        written = int(self._words[markers.WRITTEN])
        first = max(self._taken, written - markers.SLOTS + 256)  # 256: what may be written while this is copied
        self.lost += first - self._taken
        self._taken = written
        return self._slots[np.arange(first, written) % markers.SLOTS].astype(np.int64)

    def is_alive(self) -> bool:
        return is_alive(self.pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not fetched yet does not."""
    status = sysfs.text(Path(f"/proc/{pid}/stat"))
    return status is not None and status.rpartition(")")[2].split()[0] not in "ZX"


def process_name(pid: int) -> str:
    return sysfs.text(Path(f"/proc/{pid}/comm")) or "?"


def _place(pid: int) -> Path:
    if not is_alive(pid):
        raise WrongInput(f"there is no process {pid}", hint="pgrep -af edgeward")
    folder = Path(f"/proc/{pid}/fd")
    try:
        links = [(file, str(file.readlink())) for file in folder.iterdir() if file.is_symlink()]
        found = next((file for file, link in links if link.startswith(_MINE)), None)
        if found is not None:
            os.close(os.open(found, os.O_RDWR))
    except PermissionError:
        name = f"process {pid} ({process_name(pid)})"
        if os.geteuid() == 0:
            raise Unsupported(f"{name} may not be looked into here, not even by root") from None
        told = f"{name} belongs to another user; wanted one of yours, or root"
        raise WrongInput(told, hint=f"sudo edgeward trace {pid}") from None
    except FileNotFoundError:
        raise WrongInput(f"process {pid} has just ended", hint="pgrep -af edgeward") from None
    if found is not None:
        return found
    if any(link.startswith(_ANY_LAYOUT) for _, link in links):
        raise Unsupported(f"process {pid} runs another version of edgeward; wanted the same as this one")
    told = f"process {pid} ({process_name(pid)}) marks no inferences; wanted an `edgeward serve` or `edgeward run`"
    raise WrongInput(told, hint="pgrep -af edgeward, or edgeward trace MODEL to run a model here")
