"""The deployed version of a model: what of its quantisation the next one keeps, so that the update is small."""

from edgeward.optimize.parent.deployed import Parent, delta_bytes, is_bound, recipes_for
from edgeward.optimize.parent.graft import RESIDUAL_STEPS, Grafted, graft
from edgeward.optimize.parent.stored import Stored

__all__ = ["RESIDUAL_STEPS", "Grafted", "Parent", "Stored", "delta_bytes", "graft", "is_bound", "recipes_for"]
