"""Files that are whole or not there at all: atomic writes, a folder that appears at once, locks, free space."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edgeward.kit.errors import Refused, WrongInput


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Puts `data` at `path`: whole and synced to disk, or not at all. Replaces what stood there."""
    with new_file(path, mode=mode) as file:
        file.write(data)


@contextmanager
def new_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to fill beside `path`; whole and synced to disk it takes that name when the block ends well, in the place
    of what stood there, and vanishes when not.

    What other runs left unfinished (a kill -9, a power cut) is removed first, unless its run still lives.
    """
    sweep(path)
    handle, temporary = locked_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            temporary.replace(path)  # before its lock goes with the file
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None  # the person knows this name
        raise
    sync_folder(path.parent)


def locked_beside(path: Path) -> tuple[int, Path]:
    """A new file for what will be `path`, open and by its name, which no `sweep` takes."""
    import tempfile

    while True:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
        except OSError as error:
            error.filename = str(path)  # the person knows this name, and not that of our partial file
            raise
        if _is_locked_for_us(handle, name):
            return handle, Path(name)
        os.close(handle)


def _is_locked_for_us(handle: int, name: str) -> bool:
    """False where a sweep came between the file and its lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody sweeps there either
        return True
    return os.path.lexists(name)


def sweep(path: Path) -> None:
    """Removes what runs that no longer live left of `path`, under partial names."""
    import glob

    for leftover in path.parent.glob(f"{glob.escape(f'.{path.name}.partial-')}*"):
        with suppress(OSError):
            # Network file systems give a lock for oneself only to who may write.
            descriptor = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)


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

    What other runs left unfinished (a kill -9, a power cut) is removed first, unless its run still lives; a folder
    that such a run had only moved aside gets its name back.
    Raises WrongInput when `folder` exists, is not empty and may not be overwritten, at the start or at the end.
    """
    import shutil
    import tempfile

    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link that the user named
    _clean_up_after_others(folder)
    check_output_folder(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    except OSError as error:
        error.filename = str(folder)  # the person knows this name
        raise
    lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work.chmod(0o755)
        yield work
        sync_tree(work)
        check_output_folder(folder, overwrite=overwrite)  # another run may have taken the name meanwhile
        take_name(work, folder)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError) and (error.filename is None or str(work) in str(error.filename)):
            error.filename = str(folder)  # the person knows this name, and not that of our partial folder
        raise
    finally:
        os.close(lock)


def take_name(work: Path, folder: Path) -> None:
    """Gives the folder `work` the name `folder` in one step; what had that name is removed."""
    if not folder.exists():
        work.rename(folder)
    elif _exchange(work, folder):
        _remove(work)  # the old output, under the partial name
    else:
        _replace_in_two_steps(work, folder)
    sync_folder(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step, so that neither is ever missing; False where the system cannot."""
    import ctypes

    at_working_folder, rename_exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # a C library without it
        return False
    names = ctypes.c_char_p(os.fsencode(one)), ctypes.c_char_p(os.fsencode(other))
    return bool(renameat2(at_working_folder, names[0], at_working_folder, names[1], rename_exchange) == 0)


def _replace_in_two_steps(work: Path, folder: Path) -> None:
    """For file systems that cannot exchange: _clean_up_after_others mends a stop between the two."""
    import tempfile

    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.replaced-", dir=folder.parent))
    lock = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.rename(aside / "old")
        try:
            work.rename(folder)
        except BaseException:
            (aside / "old").rename(folder)
            raise
    finally:
        os.close(lock)
        # what could not be put back is the only copy: it stays for the next run
        if folder.exists():
            _remove(aside)


def _remove(folder: Path) -> None:
    import shutil

    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def sync_tree(root: Path) -> None:
    """Every file and folder below `root` survives a power cut from now on."""
    for parent, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def _clean_up_after_others(folder: Path) -> None:
    for aside in _abandoned(folder.parent, f".{folder.name}.replaced-"):
        if not os.path.lexists(folder) and os.path.lexists(aside / "old"):
            (aside / "old").rename(folder)
            sync_folder(folder.parent)
        _remove(aside)
    for leftover in _abandoned(folder.parent, f".{folder.name}.partial-"):
        _remove(leftover)


def _abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """The folders of that prefix whose run no longer lives; each is locked while the caller works on it."""
    import glob

    for leftover in parent.glob(f"{glob.escape(prefix)}*"):
        if leftover.is_symlink():
            leftover.unlink()  # a link that was exchanged for a folder
        if not leftover.is_dir():
            continue
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            yield leftover
        finally:
            os.close(descriptor)
