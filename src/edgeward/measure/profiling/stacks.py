"""What `perf script` says → stacks with their counts."""

import re
from collections import Counter
from typing import NamedTuple

_FRAME = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")
_PYTHON = re.compile(r"python3|libpython|_PyEval|^Py|^_Py|cfunction|method_vectorcall")


_GENERATED = re.compile(r"perf-?\d+\.map$|//anon|\[anon")
_STARTS = ("__libc_start", "_start", "__libc_init_first")
"""What every program has below its first function."""


class Frame(NamedTuple):
    """A function and the file that it is in."""

    name: str
    file: str


Stack = tuple[Frame, ...]


def folded(script: str) -> Counter[Stack]:
    """Outermost first; runs of Python's own frames are one, and unknown functions of a file are one."""
    found: Counter[Stack] = Counter()
    frames: list[Frame] = []
    for line in [*script.splitlines(), ""]:
        told = _FRAME.match(line)
        if told and not told[1].startswith(_STARTS):
            frames.append(_frame(told[1], told[2]))
        elif not told and frames:
            found[_joined(frames[::-1])] += 1
            frames = []
    return found


def _frame(name: str, file: str) -> Frame:
    base = file.rpartition("/")[2].removesuffix(" (deleted)")
    if "kernel.kallsyms" in file or file.startswith("[kernel"):
        return Frame(name, "kernel")
    if _PYTHON.search(base) or (_PYTHON.search(name) and not base.endswith(".so")):
        return Frame("Python", "python")
    if _GENERATED.search(file):
        return Frame("generated code", "generated")
    if name == "[unknown]":
        return Frame(f"in {base}" if base and base != "[unknown]" else "unknown", base)
    return Frame(name.partition("(")[0] if "(" in name and not name.startswith("(") else name, base)


def _joined(frames: list[Frame]) -> Stack:
    kept: list[Frame] = []
    for frame in frames:
        if not kept or frame != kept[-1]:
            kept.append(frame)
    return tuple(kept)
