"""Makes the peers' virtual environments: python -m bench.optimize_vs_peers.environments FOLDER [NAME…]

Kept between runs, and made anew where their requirements have changed. What does not install leaves its reason in
FOLDER/NAME.failure, which becomes the reason of that peer's row.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from bench.optimize_vs_peers.roster import REQUIREMENTS_FOLDER, environments

from edgeward.kit import process
from edgeward.kit.errors import Failed

_LIMIT_S = 3600


def make(
    folder: Path, name: str, requirements_folder: Path = REQUIREMENTS_FOLDER, interpreter: str = sys.executable
) -> str | None:
    """The environment `name` under `folder`, ready, with this Python; or why there is none."""
    requirements = requirements_folder / f"{name}.txt"
    mark, failure = folder / name / ".ready", folder / f"{name}.failure"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return None
    shutil.rmtree(folder / name, ignore_errors=True)
    create = [interpreter, "-m", "venv", str(folder / name)]
    install = [str(python(folder, name)), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    try:
        reason = _fault(create) or _fault(install)
    except Failed as error:
        reason = str(error)
    if reason is None:
        mark.write_text(wanted)
        failure.unlink(missing_ok=True)
        return None
    failure.write_text(f"does not install: {reason}")
    return failure.read_text()


def missing(folder: Path, name: str) -> str | None:
    """Why the environment cannot be used; None when it can."""
    if (folder / name / ".ready").exists():
        return None
    failure = folder / f"{name}.failure"
    return failure.read_text() if failure.exists() else f"no environment {name} in {folder}"


def python(folder: Path, name: str) -> Path:
    return (folder / name / "bin" / "python").absolute()


def _fault(command: list[str]) -> str | None:
    finished = process.run(command, limit_s=_LIMIT_S)
    return None if finished.code == 0 else _reason(finished.complaint or finished.output.decode(errors="replace"))


def _reason(complaint: str) -> str:
    errors = [line for line in complaint.splitlines() if line.startswith("ERROR")] or complaint.splitlines()
    return (errors[-1] if errors else "no reason given")[:300]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.optimize_vs_peers.environments")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(environments()))
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(environments()):
        parser.error(f"no peer's environment is called {unknown.pop()}; there are {', '.join(environments())}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.names or environments():
        print(f"{name}: {make(asked.folder, name) or 'ready'}", file=sys.stderr)


if __name__ == "__main__":
    main()
