"""Where engines that took minutes to build are kept for the next start."""

import os
from collections.abc import Mapping
from pathlib import Path


def folder(runtime: str, environment: Mapping[str, str] = os.environ) -> Path:
    """This user's engines of `runtime`: $XDG_CACHE_HOME/edgeward/engines/RUNTIME, made where it does not stand."""
    place = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward" / "engines" / runtime
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place
