"""The deployed version of a model: what of its quantisation the next one keeps, so that the update is small."""

from edgeward.optimize.parent.deployed import Parent, delta_bytes, is_bound, read_stored, recipes_for
from edgeward.optimize.parent.graft import Grafted, Weights, check_alike, graft
from edgeward.optimize.parent.stored import Stored

__all__ = [
    "Grafted",
    "Parent",
    "Stored",
    "Weights",
    "check_alike",
    "delta_bytes",
    "graft",
    "is_bound",
    "read_stored",
    "recipes_for",
]
