"""The last picture of each model that takes pictures, with what was found in it; kept only where the user asked."""

import io
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.serve.found import found_names
from edgeward.serve.models import ServedModel
from edgeward.serve.protocol import Request
from edgeward.serve.running import Ran

_EVERY_S = 0.5
_SIDE = 960
"""Pixels of the longer side, as shown."""


class Seen(NamedTuple):
    number: int
    picture: NDArray[np.uint8]
    boxes: list[dict[str, Any]]


class Frames:
    """At most two pictures a second are copied, whatever the rate of requests."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Seen] = {}
        self._next_s = 0.0

    def saw(self, model: ServedModel, request: Request, ran: Ran) -> None:
        """Keeps the first picture of this request, where the model takes pictures and it is time for another."""
        now = perf_counter()
        port = next(iter(model.signature.inputs.values()))
        if now < self._next_s or not port.image:
            return
        self._next_s = now + _EVERY_S
        key = model.name, model.version
        number = self._seen[key].number + 1 if key in self._seen else 1
        self._seen[key] = Seen(number, request.tensors[port.name][0].copy(), _boxes(model, ran))

    def told(self, model: ServedModel) -> dict[str, Any] | None:
        """Its number, size and boxes; None before the first."""
        seen = self._seen.get((model.name, model.version))
        if seen is None:
            return None
        height, width = seen.picture.shape[:2]
        return {"number": seen.number, "width": width, "height": height, "boxes": seen.boxes}

    def jpeg(self, model: ServedModel) -> bytes | None:
        """The picture, made smaller where it is large; None before the first."""
        seen = self._seen.get((model.name, model.version))
        if seen is None:
            return None
        from PIL import Image

        picture = seen.picture[:, :, 0] if seen.picture.shape[2] == 1 else seen.picture
        image = Image.fromarray(picture)
        image.thumbnail((_SIDE, _SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        return file.getvalue()


def _boxes(model: ServedModel, ran: Ran) -> list[dict[str, Any]]:
    names = found_names(model.predictor)
    if "boxes" not in names:
        return []
    rows, labels = ran.outputs[names["boxes"]][0], ran.outputs[names["labels"]][0]
    return [
        {"corners": [round(float(value), 1) for value in row[:4]], "score": round(float(row[4]), 3), "label": label}
        for row, label in zip(rows, labels, strict=True)
        if row[5] >= 0
    ]
