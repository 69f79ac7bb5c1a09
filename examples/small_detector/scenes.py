"""Scenes for a detector: small pictures of known classes at random places and sizes on a blurred background."""

import json
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, UnidentifiedImageError

HEIGHT, WIDTH = 96, 128
SIDES = (20, 52)
"""The least and the largest side of an object, in pixels."""
OBJECTS = (2, 6)
_MOST_SHARED = 0.15
"""At most this share of the smaller of two objects is covered by the other."""


class Scene(NamedTuple):
    """Pixels (96 × 128 × RGB), x1, y1, x2, y2 of each object in them, and its class number."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


class Pictures(NamedTuple):
    """Small pictures with their class numbers, and the names of the classes."""

    images: list[Image.Image]
    classes: NDArray[np.int64]
    names: tuple[str, ...]


def read_pictures(folder: Path) -> Pictures:
    """The images in the subfolders, which are the classes. Ends the program in one sentence where there are none."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    by_class = {path.name: sorted(chain(path.glob("*.jpg"), path.glob("*.png"))) for path in folders}
    by_class = {name: files for name, files in by_class.items() if files}
    if len(by_class) < 2:
        raise SystemExit(f"{folder}: wanted two or more subfolders with .jpg or .png images, one for each class")
    images, classes = [], []
    for number, files in enumerate(by_class.values()):
        for file in files:
            try:
                images.append(Image.open(file).convert("RGB"))
            except (UnidentifiedImageError, OSError) as error:
                raise SystemExit(f"{file}: this is no readable picture ({error})") from error
            classes.append(number)
    return Pictures(images, np.array(classes, np.int64), tuple(by_class))


def scene(pictures: Pictures, generator: np.random.Generator, *, mirrored: bool = False) -> Scene:
    """Two to six objects that hardly cover one another; where `mirrored`, half of them are, as in training."""
    canvas = _background(pictures, generator)
    boxes: list[tuple[int, int, int, int]] = []
    classes: list[int] = []
    for _ in range(int(generator.integers(OBJECTS[0], OBJECTS[1] + 1))):
        box = _place(boxes, generator)
        if box is None:
            continue
        number = int(generator.integers(len(pictures.images)))
        picture = pictures.images[number]
        if mirrored and generator.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvas.paste(picture.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR), box[:2])
        boxes.append(box)
        classes.append(int(pictures.classes[number]))
    return Scene(np.asarray(canvas), np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64))


def _background(pictures: Pictures, generator: np.random.Generator) -> Image.Image:
    """A picture enlarged and blurred, with noise: colours of the real world without objects."""
    picture = pictures.images[int(generator.integers(len(pictures.images)))]
    blurred = picture.filter(ImageFilter.GaussianBlur(3)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    noise = generator.normal(0, 6, (HEIGHT, WIDTH, 3))
    return Image.fromarray(np.clip(np.asarray(blurred) + noise, 0, 255).astype(np.uint8))


def _place(taken: list[tuple[int, int, int, int]], generator: np.random.Generator) -> tuple[int, int, int, int] | None:
    """A box that fits, after at most ten attempts."""
    for _ in range(10):
        side = float(generator.uniform(*SIDES))
        stretch = float(generator.uniform(0.8, 1.25)) ** 0.5
        width, height = round(side * stretch), round(side / stretch)
        left, top = int(generator.integers(0, WIDTH - width + 1)), int(generator.integers(0, HEIGHT - height + 1))
        box = (left, top, left + width, top + height)
        if all(_shared(box, other) <= _MOST_SHARED for other in taken):
            return box
    return None


def _shared(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(wide, 0) * max(high, 0) / smaller


def write(folder: Path, scenes: list[Scene], names: tuple[str, ...]) -> None:
    """Pictures in `images/` and `annotations.json` as COCO has it: boxes are x, y, width, height."""
    (folder / "images").mkdir(parents=True)
    annotations: list[dict[str, object]] = []
    for number, one in enumerate(scenes):
        Image.fromarray(one.pixels).save(folder / "images" / f"{number:04}.png")
        for (left, top, right, bottom), label in zip(one.boxes.tolist(), one.classes.tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": label, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    told = {
        "images": [
            {"id": number, "file_name": f"{number:04}.png", "width": WIDTH, "height": HEIGHT}
            for number in range(len(scenes))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
