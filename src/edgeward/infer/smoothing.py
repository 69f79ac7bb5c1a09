"""What the last answers say together."""

from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer.answer import Answer, Class
from edgeward.infer.postprocess import Classifier
from edgeward.records.stream import Smooth

Votes = tuple[Class, ...]
Values = tuple[NDArray[Any], ...]
"""The first outputs of the last answers, oldest first."""


def majority(step: Smooth, before: Votes, answer: Answer) -> tuple[Votes, Answer]:
    """The class that most name, the newer one of two that are named as often; its score is the share that name it."""
    if not answer.classes:
        return before, answer
    votes = (*before, answer.classes[0])[-step.last :]
    counts: dict[int, int] = {}
    for vote in votes:
        counts[vote.index] = counts.get(vote.index, 0) + 1
    newest = {vote.index: place for place, vote in enumerate(votes)}
    index = max(counts, key=lambda one: (counts[one], newest[one]))
    named = replace(votes[newest[index]], score=counts[index] / len(votes))
    return votes, replace(answer, classes=(named,))


def mean(step: Smooth, before: Values, answer: Answer, read: Classifier | None) -> tuple[Values, Answer]:
    """The mean of the first outputs, read as that of one answer is. An output of another shape begins anew."""
    name, newest = next(iter(answer.outputs.items()), ("", None))
    if newest is None or newest.dtype.kind not in "fiu":
        return before, answer
    same = before if before and before[-1].shape == newest.shape else ()
    values = (*same, newest)[-step.last :]
    whole = np.mean(values, axis=0, dtype=np.float64)
    middle = np.asarray(whole, newest.dtype if newest.dtype.kind == "f" else np.float32)
    classes = answer.classes if read is None else read(middle)
    return values, replace(answer, outputs={**answer.outputs, name: middle}, classes=classes)
