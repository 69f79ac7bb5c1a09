"""A result as people see it: the image, with its boxes and labels drawn on it."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgeward.kit.errors import WrongInput
from edgeward.serve.results import Result

_COLOURS = ("#ffd43b", "#4dabf7", "#69db7c", "#ff8787", "#da77f2", "#ffa94d", "#38d9a9", "#f783ac")
"""One for each class, in turn; light, so that black letters stand out on them."""


def picture_of(result: Result) -> Image.Image:
    """Raises WrongInput where the sample is no image."""
    image = Image.fromarray(_pixels(next(iter(result.sample.values()))))
    answer = result.answer
    # On small images letters would cover what they name: they are shown larger.
    while min(image.size) < 240:
        image = image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)
    scale = image.width / np.shape(next(iter(result.sample.values())))[1]
    draw = ImageDraw.Draw(image)
    size = max(12, round(image.height / 30))
    font = ImageFont.load_default(size)
    for place, box in enumerate(answer.boxes or ()):
        colour = _COLOURS[box.index % len(_COLOURS)]
        corners = [scale * edge for edge in (box.x1, box.y1, box.x2, box.y2)]
        draw.rectangle(corners, outline=colour, width=max(2, size // 7))
        crop = result.crops[place] if place < len(result.crops) else None
        named = "".join(f" {one.label}" for one in crop.classes[:1]) if crop else ""
        _write(draw, f"{box.label} {box.score:.2f}{named}", corners[0], corners[1] - 1.3 * size, colour, font)
    for place, one in enumerate(answer.classes):
        _write(draw, f"{one.label} {one.score:.2f}", 4, 4 + 1.5 * size * place, _COLOURS[0], font)
    return image


def jpeg_of(result: Result, quality: int = 80) -> bytes:
    file = BytesIO()
    picture_of(result).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _pixels(sample: NDArray[Any]) -> NDArray[np.uint8]:
    if sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[2] not in (1, 3):
        raise WrongInput("only images can be shown; this sample is none")
    return np.repeat(sample, 3, axis=2) if sample.shape[2] == 1 else np.ascontiguousarray(sample)


def _write(draw: ImageDraw.ImageDraw, text: str, x: float, y: float, colour: str, font: Any) -> None:
    """Black on the colour, within the image."""
    left, top, right, bottom = draw.textbbox((max(0, x), max(0, y)), text, font=font)
    dx, dy = min(0, draw.im.size[0] - right - 3), min(0, draw.im.size[1] - bottom - 3)
    draw.rectangle((left + dx - 2, top + dy - 2, right + dx + 2, bottom + dy + 2), fill=colour)
    draw.text((max(0, x) + dx, max(0, y) + dy), text, fill="black", font=font)
