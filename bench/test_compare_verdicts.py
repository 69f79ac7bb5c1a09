"""How often `edgeward bench X --compare BASE` is right: a model against itself, and against a copy that takes 5 % more.

`python -m pytest bench/test_compare_verdicts.py -s` prints the table (EDGEWARD_COMPARISONS=100 of each, about 30
minutes); run it while the machine does other work, which is what a comparison has to bear. Nothing here asserts a time.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from bench.slowed_copy import network

from edgeward.measure.bench import save_feeds
from edgeward.measure.generations import run_generations
from edgeward.measure.jobs import Contender

COMPARISONS = int(os.environ.get("EDGEWARD_COMPARISONS", "100"))
BEFORE = os.environ.get("EDGEWARD_COMPARE_BEFORE", "").split()
"""Words before the command, such as those of a queue for a machine that others use."""
WANTED = 1.05
_POINTS = (7500, 15000)


@pytest.mark.timeout(0)
def test_verdicts(tmp_path: Path) -> None:
    extra, measured = calibrated(tmp_path)
    base, slowed = tmp_path / "base.onnx", tmp_path / "slowed.onnx"
    base.write_bytes(network())
    slowed.write_bytes(network(extra))
    print(f"\nslowed.onnx: {extra} times Erf more, {measured:.4f} of the time of base.onnx (median of 24 generations)")
    found: dict[str, list[dict[str, Any]]] = {"itself": [], "slowed": []}
    for _ in range(COMPARISONS):
        found["itself"].append(compared(base, base))
        found["slowed"].append(compared(slowed, base))
        print(
            f"{len(found['itself'])}: " + "; ".join(line(name, rows[-1:]) for name, rows in found.items()), flush=True
        )
    print(
        "\n| X against base.onnx | verdict on p50 | ratio, median [5 %, 95 %] | half interval, median | seconds each |"
    )
    print("|---|---|---|---|---|")
    for name, rows in found.items():
        print(line(name, rows))


def line(name: str, rows: list[dict[str, Any]]) -> str:
    verdicts = Counter(row["verdict"] for row in rows)
    low, middle, high = np.quantile([row["ratio"] for row in rows], (0.05, 0.5, 0.95))
    half = np.median([(row["ratio_ci"][1] - row["ratio_ci"][0]) / 2 for row in rows])
    told = ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common())
    seconds, load = (np.median([row[key] for row in rows]) for key in ("seconds", "load"))
    return f"| {name} | {told} | {middle:.4f} [{low:.4f}, {high:.4f}] | {half:.4f} | {seconds:.1f} (load {load:.1f}) |"


def compared(x: Path, base: Path) -> dict[str, Any]:
    """The change of p50 by the command itself, with what it took and the load meanwhile."""
    command = [*BEFORE, sys.executable, "-m", "edgeward", "bench", str(x), "--compare", str(base), "--json"]
    begin = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    change: dict[str, Any] = json.loads(done.stdout)["changes"][0]
    return {**change, "seconds": perf_counter() - begin, "load": os.getloadavg()[0]}


def calibrated(folder: Path) -> tuple[int, float]:
    """How much more work takes 5 % more time, and what it measured in the end. On a straight line between points."""
    ratios = [measured_ratio(folder, extra, generations=16) for extra in _POINTS]
    slope = (ratios[1] - ratios[0]) / (_POINTS[1] - _POINTS[0])
    extra = int(np.clip(_POINTS[0] + (WANTED - ratios[0]) / slope, 1000, 15360))
    return extra, measured_ratio(folder, extra, generations=24)


def measured_ratio(folder: Path, extra: int, *, generations: int) -> float:
    sample = np.random.default_rng(0).standard_normal((3, 32, 32)).astype(np.float32)
    feeds = str(save_feeds(folder / "feeds.npz", [{"image": sample}]))
    contenders = []
    for name, model in (("base", network()), ("slowed", network(extra))):
        (folder / f"calibrate-{name}.onnx").write_bytes(model)
        contenders.append(Contender(str(folder / f"calibrate-{name}.onnx"), "onnxruntime", 1, feeds))
    found = run_generations(contenders, count=generations, seconds=0.5, seed=extra, tell=lambda _: None)
    # The fastest of a few runs in each turn: other programs only ever add.
    logs = [np.median(np.log(one.times_ms[1].min(axis=1) / one.times_ms[0].min(axis=1))) for one in found]
    return float(np.exp(np.median(logs)))
