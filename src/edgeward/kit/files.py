"""Files that are whole or not there at all: atomic writes, a folder that appears at once, locks, free space."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgeward.kit.errors import Refused, WrongInput


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Puts `data` at `path`: whole and synced to disk, or not at all. Replaces what stood there."""
    import tempfile

    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # the person knows this name, and not that of our partial file
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def open_regular(path: Path) -> BinaryIO:
    """The regular file `path`, open for reading. Raises Refused for a link, a pipe or a device: it follows none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(f"{path}: is a link, wanted the file itself") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path}: is no regular file")
    return os.fdopen(descriptor, "rb")


def sync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path) -> int:
    """What a normal user may still write on the file system of `path` or its nearest existing parent."""
    import shutil

    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises WrongInput unless `folder` is absent or empty, or may be overwritten."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WrongInput(f"{folder}: is a file, wanted a folder to write into", hint="choose another with -o")
    if any(folder.iterdir()) and not overwrite:
        raise WrongInput(
            f"{folder}: the output folder exists and is not empty",
            hint="add --overwrite, or choose another with -o",
        )


@contextmanager
def new_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill beside `folder`; it takes that name when the block ends well, and vanishes when not.

    What other runs left unfinished (a kill -9, a power cut) is removed first, unless its run still lives.
    Raises WrongInput when `folder` exists, is not empty and may not be overwritten, at the start or at the end.
    """
    import shutil
    import tempfile

    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link that the user named
    check_output_folder(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.partial-"
    _remove_abandoned(folder.parent, prefix)
    try:
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    except OSError as error:
        error.filename = str(folder)  # the person knows this name
        raise
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work.chmod(0o755)
        yield work
        _sync_tree(work)
        check_output_folder(folder, overwrite=overwrite)  # another run may have taken the name meanwhile
        _take_name(work, folder)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError) and (error.filename is None or str(work) in str(error.filename)):
            error.filename = str(folder)  # the person knows this name, and not that of our partial folder
        raise
    finally:
        os.close(lock)


def _take_name(work: Path, folder: Path) -> None:
    import shutil
    import tempfile

    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        folder.rename(old / "old")
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(folder)
    sync_folder(folder.parent)


def _sync_tree(root: Path) -> None:
    for parent, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def _remove_abandoned(parent: Path, prefix: str) -> None:
    import shutil

    for leftover in parent.glob(f"{prefix}*"):
        if not leftover.is_dir():
            continue
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(descriptor)
