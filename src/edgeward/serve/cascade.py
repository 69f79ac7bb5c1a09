"""A second model, which answers for what the first one found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Answer, Predictor, Sample
from edgeward.infer.answer import Box
from edgeward.records.pipeline import Cascade


class Second:
    """Answers for the crops of an image's boxes, as `cascade` chooses them."""

    def __init__(self, predictor: Predictor, cascade: Cascade) -> None:
        self._predictor = predictor
        self._cascade = cascade
        self._input = predictor.session.inputs[0].name

    def __call__(self, sample: Sample, boxes: Sequence[Box]) -> tuple[Answer | None, ...]:
        """One for each box; None for those that are not looked at, and for those without a pixel."""
        image = next(iter(sample.values()))
        left = self._cascade.most
        answers: list[Answer | None] = []
        for box in boxes:
            wanted = left > 0 and (not self._cascade.labels or box.label in self._cascade.labels)
            crop = crop_of(image, box, self._cascade.margin) if wanted else None
            answers.append(None if crop is None else self._predictor.answer({self._input: crop}))
            left -= crop is not None
        return tuple(answers)


def crop_of(image: NDArray[Any], box: Box, margin: float) -> NDArray[Any] | None:
    """The pixels of the box and, on each side, of `margin` of its width and height, as far as the image goes."""
    wide, high = margin * (box.x2 - box.x1), margin * (box.y2 - box.y1)
    left, top = (max(0, int(edge)) for edge in (box.x1 - wide, box.y1 - high))
    right, bottom = int(np.ceil(box.x2 + wide)), int(np.ceil(box.y2 + high))
    crop = image[top:bottom, left:right]
    return np.ascontiguousarray(crop) if crop.size else None
