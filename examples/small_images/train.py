"""Trains a small MobileNetV2 on folders of small colour images (such as CIFAR-10), one folder per class.

Writes a case: model.onnx, model.pt2, preprocess.toml, case.toml, calibration/ and evaluation/ (images that training
never saw). Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes about twelve minutes on
one core for CIFAR-10's 25,000 images.
"""

import argparse
import shutil
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from case_folder import describe, export, new_folder

SEED = 7
SIDE = 32
CALIBRATION_PER_CLASS = 50
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PREPROCESS_TOML = f"""\
# From the picture (height x width x RGB, uint8) to the input tensor
[[preprocess]]
type = "resize"
height = {SIDE}
width = {SIDE}

[[preprocess]]
type = "normalize"
mean = [{", ".join(str(value) for value in MEAN)}]
std = [{", ".join(str(value) for value in STD)}]

[[preprocess]]
type = "to_layout"
layout = "NCHW"
"""
STAGES = ((2, 24, 2, 2), (3, 40, 3, 2), (4, 64, 4, 2))
"""MobileNetV2's table: expansion, channels, blocks, stride of the first block."""


def convolution(into: int, out: int, side: int, *, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    """A convolution with its batch normalisation."""
    return nn.Conv2d(into, out, side, stride, side // 2, groups=groups, bias=False), nn.BatchNorm2d(out)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, filter each channel, project; the input is added where shapes allow it."""

    def __init__(self, into: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = into * expansion
        self.is_residual = stride == 1 and into == out
        self.body = nn.Sequential(
            *convolution(into, inner, 1), nn.ReLU6(inplace=True),
            *convolution(inner, inner, 3, stride=stride, groups=inner), nn.ReLU6(inplace=True),
            *convolution(inner, out, 1),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        made = self.body(features)
        return features + made if self.is_residual else made


def network(class_count: int) -> nn.Module:
    """(batch, 3, 32, 32) normalised pixels → (batch, classes) scores; about 175,000 parameters."""
    width, blocks = 16, []
    for expansion, out, count, stride in STAGES:
        for index in range(count):
            blocks.append(InvertedResidual(width, out, stride if index == 0 else 1, expansion))
            width = out
    return nn.Sequential(
        *convolution(3, 16, 3), nn.ReLU6(inplace=True),
        *blocks,
        *convolution(width, 192, 1), nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, class_count),
    )  # fmt: skip


def pictures(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, which is a subfolder."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {path.name: sorted(chain(path.glob("*.jpg"), path.glob("*.png"))) for path in classes}
    return {name: files for name, files in found.items() if files}


def split(by_class: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """A seeded few pictures of each class for calibration, the others for training."""
    parts: dict[str, dict[str, list[Path]]] = {"calibration": {}, "train": {}}
    generator = np.random.default_rng(SEED)
    for name, files in by_class.items():
        order = [files[index] for index in generator.permutation(len(files))]
        parts["calibration"][name] = order[:CALIBRATION_PER_CLASS]
        parts["train"][name] = order[CALIBRATION_PER_CLASS:]
    return parts


def decoded(by_class: dict[str, list[Path]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (count, 32, 32, 3) and class numbers."""
    images, labels = [], []
    for label, files in enumerate(by_class.values()):
        for file in files:
            try:
                picture = Image.open(file).convert("RGB")
            except (UnidentifiedImageError, OSError) as error:
                raise SystemExit(f"{file}: this is no readable picture ({error})") from error
            images.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
            labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def tensors(images: NDArray[np.uint8]) -> torch.Tensor:
    """Raw pictures as the network takes them; the same as preprocess.toml does."""
    normal = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))


def augmented(images: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The pictures shifted by up to 4 pixels, each on its own, and half of them mirrored."""
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    top, left = generator.integers(0, 9, (2, len(images), 1))
    rows, columns = top + np.arange(SIDE), left + np.arange(SIDE)
    mirrored = generator.random(len(images)) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    return padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(model: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int) -> None:
    """SGD with one cycle of the learning rate."""
    generator = np.random.default_rng(SEED)
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    steps = -(-len(images) // 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, epochs=epochs, steps_per_epoch=steps, pct_start=0.2)
    for epoch in range(epochs):
        total = 0.0
        for rows in np.array_split(generator.permutation(len(images)), steps):
            batch = tensors(augmented(images[rows], generator)).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(model(batch), torch.from_numpy(labels[rows]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="images: one subfolder per class")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="FOLDER", help="others of the same classes")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder to write")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    parts = split(pictures(arguments.data))
    parts["evaluation"] = pictures(arguments.evaluation)
    if len(parts["train"]) < 2 or not all(parts["train"].values()):
        parser.error(f"{arguments.data}: wanted two or more subfolders with over {CALIBRATION_PER_CLASS} images each")
    if parts["train"].keys() != parts["evaluation"].keys():
        parser.error(f"{arguments.evaluation}: the subfolders differ from those of {arguments.data}")
    new_folder(parser, arguments.output)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    counts = (f"{sum(map(len, part.values()))} for {name}" for name, part in parts.items())
    print(", ".join(counts), file=sys.stderr)
    model = network(len(parts["train"]))
    train(model, *decoded(parts["train"]), arguments.epochs)
    for name in ("calibration", "evaluation"):
        for label, files in parts[name].items():
            (arguments.output / name / label).mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, arguments.output / name / label / file.name)
    (arguments.output / "preprocess.toml").write_text(PREPROCESS_TOML, encoding="utf-8")
    describe(arguments.output, name="mobilenet", kind="vision", metric="top1", max_drop=0.01)
    images, labels = decoded(parts["evaluation"])
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    scores = export(model, arguments.output, tensors(images), takes="image", gives="scores")
    print(f"accuracy on {len(labels)} images it never saw: {(scores.argmax(1) == labels).mean():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
