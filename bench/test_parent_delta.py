"""A deployed int8 model, fine-tuned: what an update to the next int8 model takes with --parent and without.

Needs torch, and EDGEWARD_BENCH_CASE: a case folder of a classifier as bench/optimize_vs_peers/README.md has it, with
EDGEWARD_BENCH_TRAIN, samples to fine-tune on. Prints a table; asserts nothing about time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from bench.optimize_vs_peers.cases import open_case, read_case

from edgeward.measure.dataset import open_dataset
from edgeward.records.model import TensorSpec

torch = pytest.importorskip("torch")

CASE, TRAIN = Path(os.environ.get("EDGEWARD_BENCH_CASE", "case")), Path(os.environ.get("EDGEWARD_BENCH_TRAIN", "train"))
LEARNING_RATE = float(os.environ.get("EDGEWARD_BENCH_LEARNING_RATE", "1e-4"))
STEPS, BATCH, SAMPLES = 150, 64, 3000


def _edgeward(*arguments: object) -> dict:
    command = [sys.executable, "-m", "edgeward", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _fine_tuned(opened, folder: Path) -> Path:
    """The case's model after some steps of Adam on the labels of TRAIN."""
    from edgeward.optimize.training.network import Network
    from edgeward.optimize.training.prune import read_samples

    model = onnx.load(opened.case.model)
    session = opened.session
    specs = tuple(TensorSpec(name=s.name, dtype=s.dtype, shape=s.shape[1:]) for s in session.inputs)
    data = open_dataset(TRAIN, specs, session.outputs)
    data = data.part(np.sort(np.random.default_rng(1).permutation(len(data))[:SAMPLES]))
    samples = read_samples(model, data, opened.steps, folder, seed=0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network(model)
    before = [weight.detach().clone() for weight in network.weights]
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = generator.integers(0, len(samples.labels), BATCH)
        scores = network(torch.from_numpy(np.ascontiguousarray(samples.inputs[rows])))[0]
        is_probability = bool((scores >= 0).all()) and torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-3)
        logs = torch.log(scores + 1e-8) if is_probability else torch.log_softmax(scores, 1)
        loss = torch.nn.functional.nll_loss(logs, torch.from_numpy(samples.labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = [
        float((w.detach() - old).norm() / (old.norm() + 1e-9)) for w, old in zip(network.weights, before, strict=True)
    ]
    print(
        f"\n{STEPS} steps of Adam, learning rate {LEARNING_RATE:g}: weights moved by {np.mean(moved):.2%} of their norm"
    )
    onnx.save(network.to_onnx(), folder / "next.onnx")
    return folder / "next.onnx"


@pytest.mark.skipif(not (CASE / "case.toml").exists(), reason="EDGEWARD_BENCH_CASE names no case folder")
@pytest.mark.timeout(3600)
def test_an_update_with_a_parent_and_without(tmp_path):
    opened = open_case(read_case(CASE))
    steps = ["--preprocess", opened.case.preprocess] if opened.case.preprocess else []
    data = ["--data", opened.case.evaluation, "--calibration", opened.case.calibration, *steps, "--threads", "1"]
    _edgeward("optimize", opened.case.model, *data, "-o", tmp_path / "v1")
    report = _edgeward(
        "optimize", _fine_tuned(opened, tmp_path), *data, "--parent", tmp_path / "v1", "-o", tmp_path / "v2"
    )
    print(f"{'recipe':32} {report['metric']:>8} {'size':>9} {'update':>9} {'p50':>9}")
    for trial in report["trials"]:
        if trial["latency_ms"] is not None:
            score, p50 = trial["quality"][report["metric"]], trial["latency_ms"]["p50"] * 1000
            sizes = f"{trial['size_bytes']:>7,} B {trial['delta_bytes']:>7,} B"
            print(f"{trial['recipe']:32} {score:8.4f} {sizes} {p50:6.1f} us")
    print(json.dumps(report["update"], indent=1))
    assert report["update"]["delta_bytes"] <= report["update"]["unbound_delta_bytes"]
