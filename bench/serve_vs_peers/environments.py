"""Makes the peers' virtual environments: python -m bench.serve_vs_peers.environments FOLDER [NAME…]

As those of the optimiser's peers are kept and made anew. PyTriton needs the system's own Python, whose standard library
must match the one that Triton carries within; the others have the Python that runs this.
"""

import argparse
import shutil
import sys
from pathlib import Path

from bench.optimize_vs_peers.environments import make as make_environment
from bench.optimize_vs_peers.environments import missing, python
from bench.serve_vs_peers.roster import PEERS, REQUIREMENTS_FOLDER

__all__ = ["make", "missing", "python"]
_SYSTEM_PYTHON = "/usr/bin/python3"


def make(folder: Path, name: str) -> str | None:
    """The environment `name` under `folder`, ready; or why there is none."""
    interpreter = shutil.which(_SYSTEM_PYTHON) if name == "triton" else None
    return make_environment(folder, name, REQUIREMENTS_FOLDER, interpreter or sys.executable)


def main() -> None:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench.serve_vs_peers.environments")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(names):
        parser.error(f"no peer's environment is called {min(unknown)}; there are {', '.join(names)}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.names or names:
        print(f"{name}: {make(asked.folder, name) or 'ready'}", file=sys.stderr)


if __name__ == "__main__":
    main()
