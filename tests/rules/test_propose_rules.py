"""What is tried next follows from what was measured."""

import pytest

from edgeward.optimize.propose import AS_GIVEN, Tried, follow_ups, recipes
from edgeward.records.candidate import Recipe

CPU = ("x86_64", ("avx2", "avx512_vnni"))
KNOWN = {recipe.name: recipe for recipe in recipes(*CPU)}
GIVEN = Tried(Recipe(name=AS_GIVEN, steps=()), "kept", 1.0, 0.0)


def tried(name: str, alone_ms: float, drop: float = 0.0, *, kept: bool = True) -> Tried:
    return Tried(KNOWN[name], "kept" if kept else "missed", alone_ms, drop)


def names(*all_tried: Tried, max_drop: float = 0.01) -> set[str]:
    return {recipe.name for recipe in follow_ups((GIVEN, *all_tried), max_drop)}


def test_recipes_to_begin_with_differ_in_their_work_not_in_their_calibration():
    assert len(KNOWN) == len(recipes(*CPU))
    methods = {step.options["method"] for recipe in KNOWN.values() for step in recipe.steps if "method" in step.options}
    assert methods == {"minmax"}


def test_the_fastest_that_lost_nothing_is_only_fitted_again():
    assert names(tried("litert-int8-minmax", 0.5), tried("int8-minmax", 0.9)) == {"litert-int8-minmax-refit"}


def test_a_noticeable_loss_asks_for_other_value_ranges():
    found = names(tried("litert-int8-minmax", 0.5, 0.005))
    assert found == {"litert-int8-minmax-refit", "litert-int8-percentile"}


def test_a_missed_gate_asks_for_all_value_ranges_of_the_faster_one():
    found = names(tried("litert-int8-minmax", 0.5, 0.2, kept=False), tried("int8-minmax", 0.9))
    assert {"litert-int8-percentile", "litert-int8-entropy", "int8-minmax-refit"} <= found


def test_what_is_slower_than_the_best_that_keeps_the_gate_is_left():
    assert names(tried("litert-int8-minmax", 0.5), tried("openvino-int8-minmax", 0.6, 0.2, kept=False)) == {
        "litert-int8-minmax-refit"
    }


@pytest.mark.parametrize("drop", [0.0, 0.005, 0.2])
def test_asking_comes_to_an_end(drop):
    known = [GIVEN, tried("litert-int8-minmax", 0.5, drop, kept=drop < 0.01)]
    for _ in range(10):
        new = follow_ups(known, 0.01)
        known += [Tried(recipe, "kept" if drop < 0.01 else "missed", 0.5, drop) for recipe in new]
        if not new:
            break
    assert not follow_ups(known, 0.01)
    assert len({one.recipe.name for one in known}) == len(known)


def test_other_value_ranges_change_nothing_else():
    [found] = [r for r in follow_ups((GIVEN, tried("int8-minmax", 0.5, 0.005)), 0.01) if r.name == "int8-percentile"]
    given = KNOWN["int8-minmax"]
    assert [step.use for step in found.steps] == [step.use for step in given.steps]
    changed = [
        (one.options, other.options) for one, other in zip(found.steps, given.steps, strict=True) if one != other
    ]
    assert [dict(one) for one, _ in changed] == [{**other, "method": "percentile"} for _, other in changed]
