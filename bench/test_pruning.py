"""edgeward prune and then optimize, beside the float model as it was: accuracy and speed, in one interleaved race.

Needs torch, and EDGEWARD_BENCH_CASE: a case folder of a classifier as bench/optimize_vs_peers/README.md has it, with
EDGEWARD_BENCH_TRAIN, the folder it was trained on. Prints a table; asserts nothing about time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench.optimize_vs_peers.cases import open_case, read_case

from edgeward.infer import Predictor
from edgeward.measure import bench
from edgeward.measure.jobs import Contender
from edgeward.measure.statistics import median_ratio_interval

CASE, TRAIN = Path(os.environ.get("EDGEWARD_BENCH_CASE", "case")), Path(os.environ.get("EDGEWARD_BENCH_TRAIN", "train"))
KEEP, EPOCHS = "0.5", "6"

pytest.importorskip("torch")


def _edgeward(*arguments: object) -> dict:
    command = [sys.executable, "-m", "edgeward", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(not (CASE / "case.toml").exists(), reason="EDGEWARD_BENCH_CASE names no case folder")
@pytest.mark.timeout(1800)
def test_pruned_and_quantised(tmp_path):
    opened = open_case(read_case(CASE))
    steps = ["--preprocess", opened.case.preprocess] if opened.case.preprocess else []
    told = _edgeward(
        "prune", opened.case.model, "--data", TRAIN, "--keep", KEEP, "--epochs", EPOCHS, *steps, "-o", tmp_path / "slim"
    )
    data = ["--data", opened.case.evaluation, "--calibration", opened.case.calibration, *steps, "--threads", "1"]
    before = _edgeward("optimize", opened.case.model, *data, "-o", tmp_path / "whole")
    after = _edgeward("optimize", tmp_path / "slim" / "model.onnx", *data, "-o", tmp_path / "out")
    contenders, rows = [], []
    for name, folder, report in (("as given", None, before), ("int8", "whole", before), ("pruned, int8", "out", after)):
        trial = report["baseline"] if folder is None else report["chosen"]
        file = opened.case.model if folder is None else tmp_path / folder / trial["file"]
        samples = [opened.evaluation[index] for index in range(8)]
        raw = Predictor(opened.session, preprocess=opened.steps)
        feeds = [raw.tensors(sample) for sample in samples] if folder is None else samples
        saved = bench.save_feeds(tmp_path / f"{name}.npz", feeds)
        contenders.append(Contender(str(file), trial["runtime"], 1, str(saved)))
        rows.append((name, trial["recipe"], next(iter(trial["quality"].values())), trial["size_bytes"]))
    times = bench.race(contenders, seconds=12, seed=0)
    print(f"\nmultiply-accumulates {told['macs_before']:,} -> {told['macs_after']:,}; n {times[0].size}")
    for (name, recipe, quality, size), mine in zip(rows, times, strict=True):
        ratio, (low, high) = median_ratio_interval(times[0], mine, seed=0)
        p50 = np.median(mine) * 1000
        print(f"{name:14} {recipe:26} {quality:.4f} {size:>9,} B {p50:7.1f} us {ratio:.2f} [{low:.2f}, {high:.2f}]")
