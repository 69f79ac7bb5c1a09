"""Memory that a start needed and the work after it does not, given back to the kernel."""

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

_DONTNEED = 4
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+)\s+(.*)$")
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
"""Libraries stay where they are: another file could go while this looks, and what came in its place would be lost."""


def give_back() -> None:
    """Frees what nobody refers to, and lets go of the pages of libraries that were only read to load something.

    Those come back by themselves, from the file, when they are wanted again. Where the kernel does not tell what is
    mapped, or the C library is another one, nothing happens.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what is left stays for long: looking through it again and again makes answers late
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        madvise = library.madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, end in clean_mappings(Path("/proc/self/smaps").read_text()):
            madvise(start, end - start, _DONTNEED)


def peak_bytes() -> int:
    """The most memory that this process had at once since its program began. What the kernel calls the resource usage
    holds that of the process which started it, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


def clean_mappings(smaps: str) -> list[tuple[int, int]]:
    """Address ranges that hold a library's bytes and nothing else: not writable, private, no page of them changed."""
    found: list[tuple[int, int]] = []
    current: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if mapping := _MAPPING.match(line):
            start, end, mode, inode, path = mapping.groups()
            is_library = mode[1] == "-" and mode[3] == "p" and inode != "0" and _LIBRARY.search(path)
            current = (int(start, 16), int(end, 16)) if is_library else None
        elif line.startswith("Anonymous:") and current is not None and line.split()[1] == "0":
            found.append(current)
    return found
