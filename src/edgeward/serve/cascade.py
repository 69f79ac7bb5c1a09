"""A second model, which answers for what the first one found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Answer, Predictor, Sample
from edgeward.infer.answer import Box
from edgeward.records.pipeline import Cascade


class Second:
    """Answers for the crops of an image's boxes, as `cascade` chooses them, by a model of images of so many channels.
    Raises what the model raises where a crop does not fit it."""

    def __init__(self, predictor: Predictor, cascade: Cascade, channels: int) -> None:
        self._predictor = predictor
        self._cascade = cascade
        self._input = predictor.session.inputs[0].name
        self._channels = channels

    def __call__(self, sample: Sample, boxes: Sequence[Box]) -> tuple[Answer | None, ...]:
        """One for each box; None for those that are not looked at, and for those without a pixel."""
        image = next(iter(sample.values()))
        left = self._cascade.most
        answers: list[Answer | None] = []
        for box in boxes:
            wanted = left > 0 and (not self._cascade.labels or box.label in self._cascade.labels)
            crop = crop_of(image, box, self._cascade.margin) if wanted else None
            answers.append(None if crop is None else self._predictor.answer({self._input: self._coloured(crop)}))
            left -= crop is not None
        return tuple(answers)

    def _coloured(self, crop: NDArray[Any]) -> NDArray[Any]:
        """In as many channels as the second model takes."""
        if crop.shape[2] == self._channels:
            return crop
        if self._channels == 3:
            return np.repeat(crop, 3, axis=2)
        from PIL import Image

        return np.asarray(Image.fromarray(crop).convert("L"))[:, :, None]


def crop_of(image: NDArray[Any], box: Box, margin: float) -> NDArray[Any] | None:
    """The pixels of the box and, on each side, of `margin` of its width and height, as far as the image goes."""
    wide, high = margin * (box.x2 - box.x1), margin * (box.y2 - box.y1)
    left, top = (max(0, int(edge)) for edge in (box.x1 - wide, box.y1 - high))
    right, bottom = int(np.ceil(box.x2 + wide)), int(np.ceil(box.y2 + high))
    crop = image[top:bottom, left:right]
    return np.ascontiguousarray(crop) if crop.size else None
