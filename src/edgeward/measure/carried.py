"""What runs on a device that has nothing but Python 3.9: our small modules, held in memory. Nothing is written there.

The text of this file is what ssh starts. On standard input follows one message, eight bytes for its length and then
JSON: the modules' sources, which of them to run, and what it is asked. After that nothing more is sent; the end of
standard input is the end of the connection, and the module then returns.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from typing import Any

INPUT = 0
OLDEST = (3, 9)
GREETING = "edgeward runs here"
"""The first line of ours: what a login script prints before it is not."""


class Carried(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports from sources in memory; a package's source is that of its __init__."""

    def __init__(self, sources: "dict[str, str]") -> None:
        self.sources = sources

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002 - importlib's
        if name not in self.sources:
            return None
        is_package = any(other.startswith(name + ".") for other in self.sources)
        return importlib.machinery.ModuleSpec(name, self, is_package=is_package)

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        exec(compile(self.sources[name], "<edgeward " + name + ">", "exec"), module.__dict__)  # noqa: S102 - our own


def read_exactly(count: int) -> bytes:
    """So many bytes; EOFError where the connection ended."""
    parts = []
    while count:
        part = os.read(INPUT, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def main() -> None:
    if sys.version_info < OLDEST:
        sys.stdout.write(GREETING + "\n" + json.dumps({"too_old": list(sys.version_info[:2])}) + "\n")
        return
    try:
        message = json.loads(read_exactly(int.from_bytes(read_exactly(8), "little")).decode())
        sys.meta_path.insert(0, Carried(message["sources"]))
        module = importlib.import_module(message["run"])
        sys.stdout.write(GREETING + "\n")
        sys.stdout.flush()
        module.main(message["ask"])
        sys.stdout.flush()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # nobody hears what more there is to say


if __name__ == "__main__":
    main()
