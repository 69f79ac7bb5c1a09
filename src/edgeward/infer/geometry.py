"""Where the pixels of a raw image lie in a model's input, so that boxes and masks can be brought back."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.records.model import CenterCrop, Crop, Preprocess, Resize


class Placement(NamedTuple):
    """A raw image in an input of `height` × `width`: input place = raw place × scale + offset, along x and y."""

    height: int
    width: int
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def to_raw(self, boxes: NDArray[Any]) -> NDArray[Any]:
        """Boxes (corners, in the first four columns) in pixels of the raw image, the same ones where nothing moves;
        other columns stay."""
        if self.scale == (1.0, 1.0) and self.offset == (0.0, 0.0):
            return boxes
        moved = boxes.copy()
        moved[:, :4] = (boxes[:, :4] - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return moved

    def sampled(self, mask: NDArray[Any], height: int, width: int, *, outside: int) -> NDArray[Any]:
        """What a raw mask says at the middle of each cell of a grid over the input; `outside` beyond the image."""
        places = []
        for axis, (count, size) in enumerate(((height, self.height), (width, self.width))):
            middles = (np.arange(count) + 0.5) * size / count
            raw = np.floor((middles - self.offset[1 - axis]) / self.scale[1 - axis]).astype(np.int64)
            places.append(np.where((raw >= 0) & (raw < mask.shape[axis]), raw, -1))
        rows, columns = places
        values = mask[rows[:, None], columns[None]]
        return np.where((rows >= 0)[:, None] & (columns >= 0)[None], values, outside)


def image_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a sample: planes × height × width where only that can be, else height × width (× channels).

    Raises WrongInput for what is no image.
    """
    if len(shape) not in (2, 3):
        raise WrongInput(f"boxes and masks stand in images; the samples have shape {list(shape)}")
    planes_first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
    return (shape[1], shape[2]) if planes_first else (shape[0], shape[1])


def placement_of(steps: Preprocess, height: int, width: int) -> Placement:
    """Where the pixels of an image of `height` × `width` go in these steps."""
    placed = Placement(height, width)
    for step in steps:
        if isinstance(step, Resize):
            placed = _resized(placed, step)
        elif isinstance(step, CenterCrop):
            left, top = (placed.width - step.width) // 2, (placed.height - step.height) // 2
            placed = placed._replace(
                height=step.height, width=step.width, offset=(placed.offset[0] - left, placed.offset[1] - top)
            )
        elif isinstance(step, Crop):
            left, top, right, bottom = crop_edges(step, placed.height, placed.width)
            placed = placed._replace(
                height=bottom - top, width=right - left, offset=(placed.offset[0] - left, placed.offset[1] - top)
            )
    return placed


def _resized(placed: Placement, step: Resize) -> Placement:
    inner_height, inner_width = inner_size(step, placed.height, placed.width)
    scale_x, scale_y = inner_width / placed.width, inner_height / placed.height
    left, top = (step.width - inner_width) // 2, (step.height - inner_height) // 2
    return Placement(
        step.height, step.width, (placed.scale[0] * scale_x, placed.scale[1] * scale_y),
        (placed.offset[0] * scale_x + left, placed.offset[1] * scale_y + top),
    )  # fmt: skip


def inner_size(step: Resize, height: int, width: int) -> tuple[int, int]:
    """Height and width that an image has inside the result; less than the result where the aspect is kept."""
    if not step.keep_aspect:
        return step.height, step.width
    ratio = min(step.height / height, step.width / width)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def crop_edges(step: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels. Raises WrongInput where that is no part of such an image."""
    across, down = (width, height) if step.relative else (1, 1)
    left, right, top, bottom = (
        round(edge * size)
        for edge, size in zip((step.left, step.right, step.top, step.bottom), (across, across, down, down), strict=True)
    )
    if not (left < right <= width and top < bottom <= height):
        raise WrongInput(
            f"crop wants columns {left} to {right} and rows {top} to {bottom} of an image of {height}x{width}"
        )
    return left, top, right, bottom
