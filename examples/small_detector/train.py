"""Trains a small one-shot detector on scenes made of small colour pictures (such as CIFAR-10), one folder per class.

Writes a case: model.onnx, model.pt2, preprocess.toml (with the [[postprocess]] that reads boxes), case.toml,
calibration/ and evaluation/ (scenes with boxes in COCO's form; those of evaluation are made of pictures that training
never saw). Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes about five minutes
on one core for CIFAR-10's 25,000 images.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from case_folder import describe, export, new_folder
from scenes import HEIGHT, WIDTH, Pictures, Scene, read_pictures, scene, write

SEED = 7
BATCH = 32
STRIDES = (8, 16)
SMALL_SIDE = 32.0
"""Objects up to this side are found on the fine grid, larger ones on the coarse one."""
REACH = 1.5
"""A cell answers for an object whose middle is nearer than so many cells."""
CALIBRATION_SCENES, EVALUATION_SCENES = 200, 1000
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PREPROCESS_TOML = f"""\
# From the picture (height x width x RGB, uint8) to the input tensor
[[preprocess]]
type = "resize"
height = {HEIGHT}
width = {WIDTH}
keep_aspect = true

[[preprocess]]
type = "normalize"
mean = [{", ".join(str(value) for value in MEAN)}]
std = [{", ".join(str(value) for value in STD)}]

[[preprocess]]
type = "to_layout"
layout = "NCHW"

# From the output, (4 + classes) x anchors, to boxes
[[postprocess]]
type = "detect"
layout = "columns"
box_format = "cxcywh"
score_threshold = 0.3
iou_threshold = 0.5
"""


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


def stage(into: int, out: int, count: int, stride: int, expansion: int) -> nn.Sequential:
    first = InvertedResidual(into, out, stride, expansion)
    return nn.Sequential(first, *(InvertedResidual(out, out, 1, expansion) for _ in range(count - 1)))


class Head(nn.Module):
    """Features of one grid → box numbers and class scores of each cell, before they are decoded."""

    def __init__(self, width: int, class_count: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(width, width, 3, groups=width), nn.ReLU6(inplace=True),
            *convolution(width, width, 1), nn.ReLU6(inplace=True),
        )  # fmt: skip
        self.boxes = nn.Conv2d(width, 4, 1)
        self.scores = nn.Conv2d(width, class_count, 1)
        nn.init.constant_(self.scores.bias, -4.0)  # type: ignore[arg-type]  # few cells hold an object

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.body(features)
        return self.boxes(made).flatten(2), self.scores(made).flatten(2)


def cells() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The middle (x, y) of every cell of both grids, and its stride: 2 × cells and 1 × cells."""
    middles, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: HEIGHT // stride, : WIDTH // stride]
        middles.append((np.stack([columns, rows]).reshape(2, -1) + 0.5) * stride)
        strides.append(np.full((1, middles[-1].shape[1]), stride))
    return np.concatenate(middles, 1).astype(np.float32), np.concatenate(strides, 1).astype(np.float32)


class Detector(nn.Module):
    """(batch, 3, 96, 128) normalised pixels → (batch, 4 + classes, cells): middle and size of a box in pixels, and a
    score of 0..1 for each class; about 157,000 parameters."""

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            *convolution(3, 16, 3, stride=2), nn.ReLU6(inplace=True),
            *convolution(16, 32, 3, stride=2), nn.ReLU6(inplace=True),
            stage(32, 48, 3, 2, 3),
        )  # fmt: skip
        self.coarse = stage(48, 64, 3, 2, 4)
        self.sideways = nn.Sequential(*convolution(48, 64, 1))
        self.upwards = nn.Upsample(scale_factor=2, mode="nearest")
        self.heads = nn.ModuleList([Head(64, class_count) for _ in STRIDES])
        middles, strides = cells()
        self.register_buffer("middles", torch.from_numpy(middles)[None])
        self.register_buffer("strides", torch.from_numpy(strides)[None])

    def raw(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes in pixels (middle and size) and scores before the sigmoid, for training."""
        fine = self.fine(pixels)
        coarse = self.coarse(fine)
        found = [self.heads[0](self.sideways(fine) + self.upwards(coarse)), self.heads[1](coarse)]
        shifts, sizes = torch.cat([boxes for boxes, _ in found], 2).chunk(2, 1)
        middles = shifts * self.strides + self.middles
        return torch.cat([middles, torch.exp(sizes) * self.strides], 1), torch.cat([scores for _, scores in found], 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        boxes, scores = self.raw(pixels)
        return torch.cat([boxes, torch.sigmoid(scores)], 1)


def tensors(images: NDArray[np.uint8]) -> torch.Tensor:
    """Raw pictures as the network takes them; the same as preprocess.toml does."""
    normal = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))


def owners(one: Scene, middles: NDArray[np.float32], strides: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each cell the object it answers for, -1 for none; of several the one that is painted last."""
    found = np.full(middles.shape[1], -1)
    for number, (left, top, right, bottom) in enumerate(one.boxes):
        stride = STRIDES[0] if max(right - left, bottom - top) <= SMALL_SIDE else STRIDES[1]
        away = np.abs(middles - np.array([[(left + right) / 2], [(top + bottom) / 2]])).max(axis=0)
        found[(strides[0] == stride) & (away < REACH * stride)] = number
    return found


def loss_of(model: Detector, scenes: list[Scene]) -> torch.Tensor:
    """Focal loss of the scores, and one minus the overlap (generalised) of the boxes that answer for an object."""
    middles, strides = cells()
    boxes, scores = model.raw(tensors(np.stack([one.pixels for one in scenes])))
    owned = np.stack([owners(one, middles, strides) for one in scenes])
    wanted_scores = np.zeros(scores.shape, np.float32)
    images, places = np.nonzero(owned >= 0)
    numbers = owned[images, places]
    classes = np.array([scenes[i].classes[n] for i, n in zip(images, numbers, strict=True)], np.int64)
    corners = np.array([scenes[i].boxes[n] for i, n in zip(images, numbers, strict=True)], np.float32).reshape(-1, 4)
    wanted_scores[images, classes, places] = 1
    wanted = torch.from_numpy(wanted_scores)
    plain = nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    missed = torch.where(wanted > 0, 1 - scores.sigmoid(), scores.sigmoid())
    focal = (plain * missed**1.5).sum() / max(len(images), 1)
    overlap = generalised_overlap(boxes[images, :, places], torch.from_numpy(corners))
    return focal + 2 * (1 - overlap).sum() / max(len(images), 1)


def generalised_overlap(boxes: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Of boxes (middle and size) with true ones (corners): their overlap, less the share of the hull neither has."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    shared = (torch.minimum(high, corners[:, 2:]) - torch.maximum(low, corners[:, :2])).clamp(min=0).prod(1)
    union = boxes[:, 2:].prod(1) + (corners[:, 2:] - corners[:, :2]).prod(1) - shared
    hull = (torch.maximum(high, corners[:, 2:]) - torch.minimum(low, corners[:, :2])).prod(1)
    return shared / union - (hull - union) / hull


def train(model: Detector, pictures: Pictures, steps: int) -> None:
    """AdamW with one cycle of the learning rate; every scene is new."""
    generator = np.random.default_rng(SEED)
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.15)
    total = 0.0
    for step in range(steps):
        loss = loss_of(model, [scene(pictures, generator, mirrored=True) for _ in range(BATCH)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}: loss {total / 100:.4f}", file=sys.stderr, flush=True)
            total = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="images: one subfolder per class")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="FOLDER", help="others of the same classes")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder to write")
    parser.add_argument("--steps", type=int, default=1000, help=f"batches of {BATCH} scenes")
    arguments = parser.parse_args()
    pictures, others = read_pictures(arguments.data), read_pictures(arguments.evaluation)
    if pictures.names != others.names:
        parser.error(f"{arguments.evaluation}: the subfolders differ from those of {arguments.data}")
    if arguments.steps < 1:
        parser.error(f"--steps: wanted 1 or more, got {arguments.steps}")
    new_folder(parser, arguments.output)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = Detector(len(pictures.names))
    train(model, pictures, arguments.steps)
    for number, (name, count, source) in enumerate(
        (("calibration", CALIBRATION_SCENES, pictures), ("evaluation", EVALUATION_SCENES, others))
    ):
        generator = np.random.default_rng((SEED, number))
        scenes = [scene(source, generator) for _ in range(count)]
        write(arguments.output / name, scenes, pictures.names)
    (arguments.output / "preprocess.toml").write_text(PREPROCESS_TOML, encoding="utf-8")
    describe(arguments.output, name="detector", kind="vision", metric="map50", max_drop=0.01)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    samples = tensors(np.stack([one.pixels for one in scenes]))
    export(model, arguments.output, samples, takes="image", gives="detections")
    print(
        f"now: edgeward evaluate {arguments.output}/model.onnx --data {arguments.output}/evaluation --metric map50 "
        f"--preprocess {arguments.output}/preprocess.toml", file=sys.stderr,
    )  # fmt: skip


if __name__ == "__main__":
    main()
