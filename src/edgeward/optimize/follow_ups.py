"""Trials so far → what they make worth trying next. Rules only.

A remedy changes what a recipe answers and not what it costs: another way to find value ranges, a pass that makes a
model bear rounding, a bias fitted to labels. Remedies are tried where they can decide the choice: on what is as fast
as the fastest that keeps the limits, or faster.
"""

import math
from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from edgeward.optimize.propose import AS_GIVEN, BFLOAT16, HEAD, LEAN, QUANTISER, REMEDIES, Tried
from edgeward.optimize.quicker import base_name, is_quicker
from edgeward.records.candidate import Recipe, Step

_NEAR = 1.1
"""Candidates within a tenth of the fastest, each timed alone, may still be the fastest in turn."""
_NOTICEABLE = 0.25
"""A quarter of the drop that is allowed: from there on it is worth looking for better value ranges."""

Remedies = frozenset[str]

_METHODS = ("percentile", "entropy", "mse")
_STAGES = (_METHODS, ("equalized", "rounded", "corrected"), ("refit",))
"""Cheap and likely first; what helped in one stage is kept in the next."""
_WITHOUT_TENSOR = ("litert", "litert-amx")
"""Where the first recipes have a scale for each channel alone: it takes a sixth of a small file, and no less time."""
_SMALLER = (QUANTISER, "quantize-weights", "half")
_NONE: Remedies = frozenset()


def follow_ups(tried: Sequence[Tried], max_drop: float, seen: Collection[str]) -> tuple[Recipe, ...]:
    """What is worth trying next; empty when nothing is left. `seen` has the names of all recipes that were begun.

    Where int8 misses the accuracy gate, the fastest such recipe is treated in stages until it keeps it, and what
    was enough there is tried on the others. Where it keeps the gate and lost noticeably, other value ranges. Of all
    that keep the gate "-refit", the last bias fitted to labels, "-half", float weights stored in half the bytes, and
    in LiteRT "-tensor", one scale for each tensor of weights: a smaller file; and "-lean" of the two fastest, without
    channels that are always the same. What helped a recipe is then tried with layers in float.
    """
    fast = _decisive(tried)
    wanted = [*_treatments(fast, seen), *_with_float_in_bfloat16(fast, tried), *_refinements(fast, max_drop)]
    wanted += [*_leaner(fast), *_coarser(fast), *_as_the_base_was_helped(tried, max_drop)]
    return tuple({recipe.name: recipe for recipe in wanted if recipe.name not in seen}.values())


def _decisive(tried: Sequence[Tried]) -> list[Tried]:
    kept = [one for one in tried if one.outcome == "kept"] or tried
    slowest_ms = _NEAR * min((one.alone_ms for one in kept), default=math.inf)
    return [
        one for one in tried
        if one.alone_ms <= slowest_ms and one.outcome != "failed" and one.recipe.name != AS_GIVEN
        and not _is_mixed(one.recipe)
    ]  # fmt: skip


def _with_float_in_bfloat16(fast: Sequence[Tried], tried: Sequence[Tried]) -> Iterator[Recipe]:
    """int8 that misses the gate will have layers left in float: those may be faster in bfloat16."""
    if any(one.recipe.name == BFLOAT16 for one in tried):
        for one in fast:
            recipe = one.recipe
            if recipe.runtime == "openvino" and _is_quantised(recipe) and one.outcome == "missed":
                name = recipe.name.replace("openvino", BFLOAT16, 1)
                if not remedies_of(recipe):
                    yield replace(recipe, name=name, runtime=BFLOAT16)


def _refinements(fast: Sequence[Tried], max_drop: float) -> Iterator[Recipe]:
    names = {one.recipe.name for one in fast}
    for one in fast:
        if one.outcome != "kept" or (is_quicker(one.recipe) and base_name(one.recipe) in names):
            continue  # what helps its base is tried on it after that
        mine = remedies_of(one.recipe)
        if mine and not _helped(one, fast, max_drop):
            continue  # what helps it is tried without
        if one.quality_drop > _NOTICEABLE * max_drop and _is_quantised(one.recipe) and not mine & {*_METHODS}:
            yield with_remedies(one.recipe, mine | {"percentile"})
        if "refit" not in mine:
            yield with_remedies(one.recipe, mine | {"refit"})
        if not any(step.use in _SMALLER for step in one.recipe.steps):
            yield _halved(one.recipe)


def _helped(one: Tried, fast: Sequence[Tried], max_drop: float) -> bool:
    """Whether the remedies of a recipe gained noticeably over the same without."""
    plain = with_remedies(one.recipe, _NONE).name
    drops = [other.quality_drop for other in fast if other.recipe.name == plain and other.outcome == "kept"]
    return all(one.quality_drop < drop - _NOTICEABLE * max_drop for drop in drops)


def _as_the_base_was_helped(tried: Sequence[Tried], max_drop: float) -> Iterator[Recipe]:
    """What helped a recipe noticeably helps it with layers in float too. Which of them is the fastest, times of each
    alone do not tell where a machine is noisy: they are asked for by what was gained."""
    kept = {one.recipe.name: one for one in tried if one.outcome == "kept"}
    for one in sorted(kept.values(), key=lambda one: one.alone_ms):
        base = kept.get(base_name(one.recipe))
        if base is None or remedies_of(one.recipe) or not is_quicker(one.recipe):
            continue
        line = [other for other in kept.values() if with_remedies(other.recipe, _NONE).name == base.recipe.name]
        best = min(line, key=lambda other: other.quality_drop)
        if best.quality_drop < base.quality_drop - _NOTICEABLE * max_drop:
            yield with_remedies(one.recipe, remedies_of(best.recipe))


def _leaner(fast: Sequence[Tried]) -> Iterator[Recipe]:
    kept = [one for one in fast if one.outcome == "kept" and not remedies_of(one.recipe)]
    for one in sorted(kept, key=lambda one: one.alone_ms)[:2]:
        if not any(step.use == LEAN for step in one.recipe.steps):
            steps = (*one.recipe.steps[: len(HEAD)], Step(use=LEAN), *one.recipe.steps[len(HEAD) :])
            yield replace(one.recipe, name=f"{one.recipe.name}-lean", steps=steps)


def _coarser(fast: Sequence[Tried]) -> Iterator[Recipe]:
    """Of the two fastest in LiteRT: alone, the second is often the first."""
    kept = sorted((one for one in fast if one.outcome == "kept"), key=lambda one: one.alone_ms)
    for one in kept[:2]:
        if one.recipe.runtime in _WITHOUT_TENSOR and (coarse := _per_tensor(one.recipe)) is not None:
            yield coarse


def _per_tensor(recipe: Recipe) -> Recipe | None:
    """The same with one scale for each tensor of weights; None where that is so, or nothing is quantised."""
    if not any(step.use == QUANTISER and step.options.get("per_channel") for step in recipe.steps):
        return None
    steps = tuple(
        replace(step, options={**step.options, "per_channel": False}) if "per_channel" in step.options else step
        for step in recipe.steps
    )
    method = _method(remedies_of(recipe))
    return replace(recipe, name=recipe.name.replace(f"-{method}", f"-{method}-tensor", 1), steps=steps)


def _halved(recipe: Recipe) -> Recipe:
    """The same with its weights stored in float16."""
    *steps, last = recipe.steps
    return replace(recipe, name=f"{recipe.name}-half", steps=(*steps, Step(use="half"), last))


def _treatments(fast: Sequence[Tried], seen: Collection[str]) -> Iterator[Recipe]:
    lines: dict[str, list[Tried]] = {}
    for one in sorted(fast, key=lambda one: one.alone_ms):
        if _is_quantised(one.recipe):
            lines.setdefault(with_remedies(one.recipe, _NONE).name, []).append(one)
    missed = [line for line in lines.values() if all(one.outcome == "missed" for one in line)]
    enough = {remedies_of(one.recipe) for line in lines.values() for one in line if one.outcome == "kept"} - {_NONE}
    if enough:
        for line in missed:
            yield from (with_remedies(line[0].recipe, remedies) for remedies in sorted(enough, key=sorted))
    elif missed:
        yield from _next_stage(missed[0], seen)


def _next_stage(line: Sequence[Tried], seen: Collection[str]) -> list[Recipe]:
    """The first stage that has something new to try on the best of the line so far."""
    best = min(line, key=lambda one: one.quality_drop).recipe
    mine = remedies_of(best)
    for stage in _STAGES:
        if mine & {*stage}:
            continue
        new = [with_remedies(best, mine | {remedy}) for remedy in stage]
        if any(recipe.name not in seen for recipe in new):
            return new
    return []


def remedies_of(recipe: Recipe) -> Remedies:
    """The remedies that a recipe has."""
    uses = {step.use for step in recipe.steps}
    methods = {str(step.options.get("method")) for step in recipe.steps if step.use == QUANTISER}
    return frozenset({name for name, use in REMEDIES.items() if use in uses} | (methods & {*_METHODS}))


def with_remedies(recipe: Recipe, remedies: Remedies) -> Recipe:
    """The recipe with these remedies and no other."""
    steps = list[Step]()
    for step in (step for step in recipe.steps if step.use not in REMEDIES.values()):
        if step.use == QUANTISER:
            step = replace(step, options={**step.options, "method": _method(remedies)})
            grid = {name: step.options[name] for name in ("per_channel", "reduce_range")}
            before = [Step(use=REMEDIES["rounded"], options=grid)] if "rounded" in remedies else []
            after = [Step(use=REMEDIES["corrected"])] if "corrected" in remedies else []
            steps += [*before, step, *after]
        else:
            steps.append(step)
    first = [Step(use=REMEDIES[name]) for name in ("refit", "equalized") if name in remedies]
    steps[len(HEAD) : len(HEAD)] = first
    return replace(recipe, name=_name(recipe.name, remedies), steps=tuple(steps))


def _method(remedies: Remedies) -> str:
    return next((method for method in _METHODS if method in remedies), "minmax")


def _name(name: str, remedies: Remedies) -> str:
    plain = [part for part in name.split("-") if part not in REMEDIES]
    method = _method(remedies)
    return "-".join([
        *(method if part in ("minmax", *_METHODS) else part for part in plain),
        *(remedy for remedy in REMEDIES if remedy in remedies),
    ])  # fmt: skip


def _is_quantised(recipe: Recipe) -> bool:
    return any(step.use == QUANTISER for step in recipe.steps)


def _is_mixed(recipe: Recipe) -> bool:
    """For the sake of its answers, not of its speed."""
    return any(step.options.get("keep_float") for step in recipe.steps) and not is_quicker(recipe)
