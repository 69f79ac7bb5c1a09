"""What every part is given."""

from pathlib import Path
from typing import NamedTuple

from bench.serve_vs_peers.bundles import Bundle
from bench.serve_vs_peers.load import Load


class Context(NamedTuple):
    """`small` is the model that everybody serves. Quick runs are for trying the benchmark out, not for its figures."""

    small: Bundle
    work: Path
    environments: Path
    load: Load
    quick: bool
    soak: int
    overload_s: float

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"
