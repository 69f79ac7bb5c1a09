"""Trains the small digit classifier of `edgeward demo` and writes it, with its data, beside this file.

Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes about a minute on two cores.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

SEED = 7
GREY_STEP = 15  # UCI values are 0..16; times 15 they are grey levels that a person can see
MEAN, STD, FULL_SCALE = 0.3, 0.35, 240.0
TRAIN, CALIBRATION = 1000, 297


def network() -> nn.Module:
    """(batch, 1, 8, 8) normalised pixels → (batch, 10) scores."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


def tensors(images: np.ndarray) -> torch.Tensor:
    """Raw uint8 samples (count, 8, 8, 1) as the network takes them."""
    return torch.from_numpy(((images.transpose(0, 3, 1, 2) / FULL_SCALE - MEAN) / STD).astype(np.float32))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Adam with a cosine schedule; samples shift by up to a pixel, so that the network does not learn places."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            down, right = (int(shift) for shift in torch.randint(-1, 2, (2,)))
            loss = nn.functional.cross_entropy(model(images[rows].roll((down, right), (2, 3))), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.4f}", file=sys.stderr)


def export(model: nn.Module, file: Path, sample: torch.Tensor) -> None:
    """Writes the ONNX file and raises ValueError when ONNX Runtime answers differently from PyTorch."""
    model.eval()
    torch.onnx.export(
        model, (sample,), file, dynamo=True, external_data=False, input_names=["image"], output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    exported = onnx.load(file)
    for part in (exported.graph, *exported.graph.node, *exported.graph.value_info):
        part.ClearField("metadata_props")  # notes of the exporter: where on this machine the code stands
    onnx.checker.check_model(exported)
    onnx.save(exported, file)
    with torch.no_grad():
        expected = model(sample).numpy()
    got = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": sample.numpy()})[0]
    if not np.abs(got - expected).max() < 1e-3:
        raise ValueError("ONNX Runtime does not answer as PyTorch does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    digits = load_digits()
    images = (digits.images[..., None] * GREY_STEP).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(images))
    parts = {
        "train": order[:TRAIN],
        "calibration": order[TRAIN : TRAIN + CALIBRATION],
        "evaluation": order[TRAIN + CALIBRATION :],
    }
    model = network()
    train(model, tensors(images[parts["train"]]), torch.from_numpy(labels[parts["train"]]), arguments.epochs)
    arguments.output.mkdir(parents=True, exist_ok=True)
    export(model, arguments.output / "digits.onnx", tensors(images[parts["evaluation"]]))
    for name in ("calibration", "evaluation"):
        rows = parts[name]
        np.savez_compressed(arguments.output / f"{name}.npz", image=images[rows], labels=labels[rows])
    unseen = arguments.output / "unseen"
    unseen.mkdir(exist_ok=True)
    for label in range(10):
        row = next(row for row in parts["evaluation"] if labels[row] == label)
        Image.fromarray(images[row, :, :, 0]).save(unseen / f"digit-{label}.png")
    with torch.no_grad():
        right = model(tensors(images[parts["evaluation"]])).argmax(1).numpy() == labels[parts["evaluation"]]
    print(f"accuracy on {len(right)} digits it never saw: {right.mean():.4f}")


if __name__ == "__main__":
    main()
