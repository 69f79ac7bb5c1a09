"""int8 with the layers in float that are faster so: those that the runtime's integer kernels lose on, and the last.

Depthwise convolutions are such layers in LiteRT, first convolutions over few channels in ONNX Runtime. Their weights
are stored in float16, which takes half the room and no time. Rules only.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec.structs import replace

from edgeward.optimize.propose import QUANTISER, Tried
from edgeward.records.candidate import Recipe, Step

_NEAR = 1.3
"""What leaving layers in float has been seen to gain, and a little more."""
_MOST = 2
_QUICK, _TAIL = "quick", "tail"


def bases(tried: Sequence[Tried]) -> tuple[Recipe, ...]:
    """Of the two fastest runtimes the fastest plain int8 recipe that keeps the limits, where it may still become the
    fastest of all; the fastest first."""
    fastest_ms = min((one.alone_ms for one in tried if one.outcome == "kept"), default=0.0)
    found: dict[str, Recipe] = {}
    for one in sorted(tried, key=lambda one: one.alone_ms):
        if one.outcome == "kept" and one.alone_ms <= _NEAR * fastest_ms and _is_plain(one.recipe):
            found.setdefault(one.recipe.runtime, one.recipe)
    return tuple(found.values())[:_MOST]


def quicker(
    base: Recipe, layers: Sequence[str], saved_ms: Mapping[str, float], seen: Collection[str]
) -> Iterator[Recipe]:
    """The base with those of its `layers` (in their order) in float that int8 saves no time on here, with the last one
    in float, and with both. `saved_ms` has what is known of them."""
    slow, last = [name for name in layers if saved_ms.get(name, 0.0) < 0], layers[-1:]
    wanted = {_QUICK: slow, _TAIL: last}
    if slow and last[0] not in slow:
        wanted[f"{_QUICK}-{_TAIL}"] = [*slow, *last]
    if slow == last:
        del wanted[_QUICK]
    for name, kept in wanted.items():
        steps = [_keeping(step, kept) for step in base.steps]
        end = len(steps) - (steps[-1].use == "strip")
        steps.insert(end, Step(use="half"))
        recipe = replace(base, name=f"{base.name}-{name}", steps=tuple(steps))
        if kept and len(kept) < len(layers) and recipe.name not in seen:
            yield recipe


def is_quicker(recipe: Recipe) -> bool:
    """Whether layers are in float for speed."""
    return any(name in recipe.name.split("-") for name in (_QUICK, _TAIL))


def base_name(recipe: Recipe) -> str:
    """The name of the recipe that it was before layers of it were left in float."""
    return "-".join(part for part in recipe.name.split("-") if part not in (_QUICK, _TAIL))


def _keeping(step: Step, kept: Sequence[str]) -> Step:
    if step.use != QUANTISER:
        return step
    return replace(step, options={**step.options, "keep_float": ",".join(kept)})


def _is_plain(recipe: Recipe) -> bool:
    options = [step.options for step in recipe.steps if step.use == QUANTISER]
    return bool(options) and not any(option.get("keep_float") for option in options)
