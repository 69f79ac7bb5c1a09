"""Trains a small network on a table: scikit-learn's breast cancer data (569 rows, 30 columns, two classes).

Writes a case: model.onnx, model.pt2, case.toml, calibration.npz and evaluation.npz (rows that training never saw).
Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes a few seconds.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from case_folder import describe, export, new_folder

SEED = 7
CALIBRATION, EVALUATION = 60, 200


class Table(nn.Module):
    """(batch, 30) values as they stand in the table → (batch, 2) scores. The columns are standardised inside."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.body = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.body((rows - self.mean) / self.std)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder to write")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    new_folder(parser, arguments.output)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    values, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    values, labels = values[order].astype(np.float32), labels[order].astype(np.int64)
    first = CALIBRATION + EVALUATION
    rows, targets = torch.from_numpy(values[first:]), torch.from_numpy(labels[first:])
    model = Table(rows.mean(0), rows.std(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-3)
    for _ in range(arguments.epochs):
        for part in torch.randperm(len(rows)).split(32):
            loss = nn.functional.cross_entropy(model(rows[part]), targets[part])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for name, part in (("calibration", slice(0, CALIBRATION)), ("evaluation", slice(CALIBRATION, first))):
        np.savez(arguments.output / f"{name}.npz", rows=values[part], labels=labels[part])
    describe(arguments.output, name="tabular", kind="tabular", metric="top1", max_drop=0.01)
    seen = slice(CALIBRATION, first)
    scores = export(model, arguments.output, torch.from_numpy(values[seen]), takes="rows", gives="scores")
    right = scores.argmax(1) == labels[seen]
    print(f"accuracy on {EVALUATION} rows it never saw: {right.mean():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
