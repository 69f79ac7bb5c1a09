"""Python's bytecode for what a service imports, so that a device need not compile it at each start.

It is made by this machine's Python, where that is of the device's version. The same sources give the same bytes: it is
compiled by a process of its own, in one order, and marked as not to be compared with its source.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeward.kit.errors import Failed
from edgeward.kit.tars import Entry

_SELDOM = re.compile(
    r".*/(PIL|flatbuffers|rich|openvino/(opset\d+|tools)|numpy/(ma|polynomial|testing|typing|doc|ctypeslib))/.*"
    r"|.*/edgeward/(optimize|measure)/.*"
)
_LIBRARY = re.compile(r"usr/lib/python3[.\d]*/(.*)\.py")
OF_LIBRARY = re.compile(
    r"(asyncio|collections|concurrent|importlib|json|re)/.*|(ctypes|http|logging)/__init__|urllib/parse|ctypes/_endian"
    r"|encodings/(__init__|aliases|cp437|idna|utf_8)|__future__|_compat_pickle|_compression|_weakrefset|ast|base64|bisect"
    r"|bz2|contextlib|contextvars|copy|copyreg|datetime|decimal|dis|enum|fnmatch|functools|gettext|hashlib|heapq|inspect"
    r"|ipaddress|keyword|linecache|locale|lzma|numbers|opcode|operator|pathlib|pickle|pkgutil|platform|queue|random"
    r"|reprlib|runpy|selectors|shutil|signal|sitecustomize|socket|ssl|string|stringprep|struct|subprocess|tempfile"
    r"|textwrap|threading|token|tokenize|traceback|types|typing|uuid|warnings|weakref|zipfile"
)
"""What a service imports of Python's own library, and what it seldom imports of the rest: that is compiled then."""


def is_made_for(python: tuple[int, int]) -> bool:
    """Whether this machine's Python writes what that one reads."""
    return sys.version_info[:2] == python


def with_bytecode(entries: Iterable[Entry], python: tuple[int, int]) -> Iterator[Entry]:
    """The files, and the bytecode of those that a service imports; none for another version of Python."""
    with tempfile.TemporaryDirectory() as work:
        for entry in entries:
            yield entry
            if entry.link is None and _is_imported(entry.path):
                place = Path(work, entry.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(entry.data)
        if is_made_for(python):
            _compile(work)
            for path in sorted(Path(work).rglob("*.pyc")):
                yield Entry(str(path.relative_to(work)), path.read_bytes())


def _is_imported(path: str) -> bool:
    if found := _LIBRARY.fullmatch(path):
        return bool(OF_LIBRARY.fullmatch(found[1]))
    return path.endswith(".py") and not _SELDOM.fullmatch(path)


def _compile(folder: str) -> None:
    options = ["-q", "-s", folder, "-p", "/", "--invalidation-mode", "unchecked-hash"]
    command = [sys.executable, "-I", "-m", "compileall", *options, folder]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise Failed(f"bytecode could not be made: {(done.stdout + done.stderr).strip()[-300:]}")
