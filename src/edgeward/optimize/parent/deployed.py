"""A verified bundle as the parent of the next version: its model file, how it was made, and what an update costs."""

from collections.abc import Sequence
from typing import NamedTuple

from edgeward.bundle import VerifiedBundle, report_of
from edgeward.kit import codec
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.optimize.parent.stored import Stored
from edgeward.records.base import Digest
from edgeward.records.candidate import Recipe, Report, Step

SLACKS = {"as-parent": 2.0, "near-parent": 5.0}
"""How many times the error of plain rounding a layer may have, by the name of the recipe."""
_BOUND_STEP = "quantize-as-parent"
_NEVER_KEPT = ("refit-bias", "round-learned", "correct-bias", "strip", _BOUND_STEP)
"""Steps that say nothing of how a file is built, may have nothing to do on the next model, or are done anyway."""
_THOROUGH_BYTES = 4 << 20
_LEVEL, _FAST_LEVEL = 19, 9
_LONGEST_WINDOW = 31


class Parent(NamedTuple):
    """The deployed version. `recipe` is None where its bundle does not say how it was made."""

    bundle: Digest
    name: str
    version: str
    runtime: str
    format: str
    model_bytes: bytes
    recipe: Recipe | None

    @classmethod
    def of(cls, verified: VerifiedBundle) -> "Parent":
        """What a verified bundle holds of it."""
        manifest = verified.manifest
        return cls(
            verified.bundle.digest, manifest.name, manifest.version, manifest.runtime, manifest.model.format,
            verified.model, _recipe_in(report_of(verified)),
        )  # fmt: skip

    def stored(self) -> Stored:
        """Its model file, decoded. Raises WrongInput or Unsupported where that cannot be done."""
        return read_stored(self.model_bytes, self.format)

    @property
    def fault(self) -> str | None:
        """Why nothing of it can be kept, whatever the next model is; None where it holds weights in eight bits."""
        try:
            constants = self.stored().constants
        except EdgewardError as error:
            return error.message
        if any(one.scale is not None and one.values.dtype.itemsize == 1 for one in constants):
            return None
        return f"its model ({self.runtime}) is not quantised"


def read_stored(data: bytes, model_format: str) -> Stored:
    """A model file of that format, decoded."""
    if model_format == "litert":
        from edgeward.optimize.parent.litert_file import LiteRtStored

        return LiteRtStored(data)
    if model_format == "onnx":
        from edgeward.optimize.parent.onnx_file import OnnxFile

        return OnnxFile(data)
    raise Unsupported(f"there is no reader for a parent in the format {model_format}")


def recipes_for(parent: Parent, known: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Recipes that keep what they can of the parent: made as it was, else in every known way for its runtime."""
    if parent.fault is not None:
        return ()
    made = [parent.recipe] if parent.recipe is not None and _quantizes(parent.recipe) else []
    ways = made or [one for one in known if one.runtime == parent.runtime and _quantizes(one)]
    found = []
    for way in ways:
        for name, slack in SLACKS.items():
            suffix = "" if len(ways) == 1 else f"-{way.name}"
            found.append(Recipe(name=f"{name}{suffix}", steps=_steps(way, parent, slack), runtime=parent.runtime))
    return tuple(found)


def is_bound(steps: Sequence[Step]) -> bool:
    """Whether these are the steps of a candidate that keeps what it can of the parent."""
    return any(step.use == _BOUND_STEP for step in steps)


def delta_bytes(before: bytes, after: bytes) -> int:
    """The size of an update of one file to the other, as `zstd --patch-from` makes it."""
    import zstandard  # only who names a parent pays for it

    size = max(len(before), len(after), 1)
    level = _LEVEL if size <= _THOROUGH_BYTES else _FAST_LEVEL
    settings = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=min(_LONGEST_WINDOW, max(10, (2 * size).bit_length())), enable_ldm=size > _THOROUGH_BYTES
    )
    past = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return len(zstandard.ZstdCompressor(dict_data=past, compression_params=settings).compress(after))


def _recipe_in(report: bytes | None) -> Recipe | None:
    """The recipe that a bundle's report says it was made by."""
    if report is None:
        return None
    try:
        chosen = codec.from_json(report, Report, "the parent's report").chosen
    except EdgewardError:
        return None
    return None if chosen is None else Recipe(name=chosen.recipe, steps=chosen.steps, runtime=chosen.runtime)


def _quantizes(recipe: Recipe) -> bool:
    return any(step.use.startswith("quantize") for step in recipe.steps)


def _steps(way: Recipe, parent: Parent, slack: float) -> tuple[Step, ...]:
    kept = tuple(step for step in way.steps if step.use not in _NEVER_KEPT)
    return (*kept, Step(use=_BOUND_STEP, options={"slack": slack, "parent": parent.bundle}))
