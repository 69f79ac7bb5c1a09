"""Where a bundle comes together before it has its name: a folder that outlives a cut, so that the next try goes on."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeward.bundle.registry import Place, Reference
from edgeward.kit import files
from edgeward.kit.errors import Refused, Unavailable


@contextmanager
def folder(target: Path, source: Reference | Place, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the block ends well. It stays where the block is stopped or the
    source was lost, and goes where what came is refused."""
    target = target.absolute()
    files.check_output_folder(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    work = target.with_name(f".{target.name}.pulling-{mark}")
    work.mkdir(exist_ok=True)
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield work
        files.check_output_folder(target, overwrite=overwrite)
        files.take_name(work, target)
    except BlockingIOError:
        raise Unavailable(f"{target}: another pull of it is under way", hint="wait for it to end") from None
    except Refused:
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        os.close(lock)
