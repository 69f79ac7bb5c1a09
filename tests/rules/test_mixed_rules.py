"""Which layers stay in float, and how many: rules over simulated searches."""

from hypothesis import given
from hypothesis import strategies as st

from edgeward.optimize.mixed import (
    MOST_RECIPES,
    Plan,
    base_of,
    enough_before,
    guess,
    harms,
    next_recipe,
    ranked,
    recipe_of,
)
from edgeward.optimize.propose import Tried, recipes
from edgeward.optimize.sensitivity import LayerNoise

RECIPES = {recipe.name: recipe for recipe in recipes("x86_64", ["avx512_vnni"])}
MAX_DROP = 0.01


def tried(name, alone_ms, drop):
    return Tried(RECIPES[name], "kept" if drop <= MAX_DROP else "missed", alone_ms, drop)


def layers(**decibels):
    return [LayerNoise(name, "Conv", value, value) for name, value in decibels.items()]


FLOAT = tried("float32", 1.0, 0.0)


def test_the_fastest_int8_recipe_that_misses_the_gate_is_the_base():
    found = base_of([FLOAT, tried("int8-minmax", 0.6, 0.02), tried("litert-int8-minmax", 0.5, 0.03)], ())
    assert found.recipe.name == "litert-int8-minmax"


def test_there_is_nothing_to_do_where_a_plain_int8_recipe_keeps_the_gate():
    assert base_of([FLOAT, tried("int8-minmax", 0.5, 0.02), tried("int8-minmax-tensor", 0.5, 0.0)], ()) is None


def test_there_is_nothing_to_do_where_float_is_as_fast_as_int8():
    assert base_of([FLOAT, tried("int8-minmax", 0.95, 0.02)], ()) is None


def test_there_is_nothing_to_do_before_int8_was_tried():
    assert base_of([FLOAT], ()) is None
    assert base_of([], ()) is None


def test_a_kind_of_recipe_is_mixed_once_and_then_the_next_one():
    both = [FLOAT, tried("int8-minmax", 0.6, 0.02), tried("litert-int8-minmax", 0.5, 0.03)]
    assert base_of(both, {"litert-int8-minmax"}).recipe.name == "int8-minmax"
    assert base_of(both, {"litert-int8-minmax", "int8-minmax"}) is None


def test_of_equal_kinds_the_one_with_the_least_drop_is_the_base():
    minmax = tried("int8-minmax", 0.5, 0.05)
    steps = tuple(
        type(step)(use=step.use, options={**step.options, "method": "percentile"}) if step.options else step
        for step in minmax.recipe.steps
    )
    percentile = Tried(type(minmax.recipe)(name="int8-percentile", steps=steps), "missed", 0.52, 0.02)
    assert base_of([FLOAT, minmax, percentile], ()).recipe.name == "int8-percentile"


def test_a_layer_that_saves_ten_times_the_time_may_add_ten_times_the_noise():
    noise = layers(quiet=40, loud=30.5, fast=29.5)
    assert ranked(noise, {}) == ("fast", "loud", "quiet")
    assert ranked(noise, {"quiet": 1.0, "loud": 1.0, "fast": 10.0}) == ("loud", "fast", "quiet")


def test_a_layer_that_int8_makes_slower_goes_first_unless_it_is_much_quieter():
    noise = layers(slower=31, other=30)
    assert ranked(noise, {"slower": -1.0, "other": 3.0})[0] == "slower"
    assert ranked([noise[1], *layers(slower=60)], {"slower": -1.0, "other": 3.0})[0] == "other"


def test_a_layer_without_a_figure_for_the_answers_is_taken_to_fade_like_the_others():
    noise = [
        LayerNoise("a", "Conv", 20.0, 30.0),
        LayerNoise("b", "Conv", 40.0, 50.0),
        LayerNoise("c", "Conv", 30.0, None),
    ]
    assert abs(harms(noise)["c"] - 10**-4.0) < 1e-9


def test_the_first_guess_leaves_the_noise_that_the_gate_would_bear():
    noise = layers(a=10, b=20, c=30, d=40)
    order = ("a", "b", "c", "d")
    assert guess(noise, order, quality_drop=0.02, max_drop=0.01) == 1
    assert guess(noise, order, quality_drop=0.4, max_drop=0.01) == 2
    assert guess(noise, order, quality_drop=0.5, max_drop=0.0) == 3


def searched(order, needed, *, guessed, fails=()):
    """What a search tries where `needed` layers in float are enough, and `fails` of them do not run."""
    plan = Plan(RECIPES["int8-minmax"], order, 0, len(order), guessed)
    known, seen, counts = [FLOAT, tried("int8-minmax", 0.1, 0.05)], {"float32", "int8-minmax"}, []
    while (recipe := next_recipe(plan, known, seen)) is not None:
        count = int(recipe.name.split("float")[1])
        assert recipe.name not in seen
        seen.add(recipe.name)
        counts.append(count)
        if count not in fails:
            known.append(Tried(recipe, "kept" if count >= needed else "missed", 0.1 + 0.5 * count / len(order), 0.0))
    return counts


@given(size=st.integers(1, 60), data=st.data())
def test_bisection_ends_soon_and_finds_the_fewest_layers(size, data):
    order = tuple(f"l{place}" for place in range(size))
    needed = data.draw(st.integers(1, size))
    counts = searched(order, needed, guessed=data.draw(st.integers(1, max(1, size - 1))))
    assert len(counts) <= MOST_RECIPES
    assert all(1 <= count < size for count in counts)
    if size <= 30 and needed < size:
        assert needed in counts or len(counts) == MOST_RECIPES
    if size == 1:
        assert counts == []


@given(size=st.integers(2, 40), data=st.data())
def test_recipes_that_do_not_run_end_the_search_all_the_same(size, data):
    order = tuple(f"l{place}" for place in range(size))
    fails = data.draw(st.sets(st.integers(1, size)))
    assert len(searched(order, size // 2, guessed=1, fails=fails)) <= MOST_RECIPES


def test_a_mixed_recipe_that_misses_and_is_slower_than_what_keeps_the_gate_ends_it():
    plan = Plan(RECIPES["int8-minmax"], ("a", "b", "c", "d", "e"), 0, 5, 2)
    slow = Tried(recipe_of(plan, 2), "missed", 1.2, 0.05)
    known = [FLOAT, tried("int8-minmax", 0.5, 0.05), slow]
    assert next_recipe(plan, known, {one.recipe.name for one in known}) is None


def test_a_mixed_recipe_names_its_layers_and_is_otherwise_the_base():
    base = RECIPES["litert-int8-minmax"]
    recipe = recipe_of(Plan(base, ("a", "b", "c"), 0, 3, 2), 2)
    assert (recipe.name, recipe.runtime) == ("litert-int8-minmax-float2", "litert")
    (step,) = [step for step in recipe.steps if "keep_float" in step.options]
    assert step.options["keep_float"] == "a,b"
    assert [one.use for one in recipe.steps] == [one.use for one in base.steps]


def test_what_was_enough_in_one_runtime_is_known_in_the_others():
    mixed = recipe_of(Plan(RECIPES["litert-int8-minmax"], ("a", "b", "c"), 0, 3, 2), 2)
    known = [FLOAT, Tried(mixed, "kept", 0.6, 0.005)]
    assert enough_before(RECIPES["int8-minmax"], known) == ("a", "b")
    assert enough_before(RECIPES["int8-minmax-blocked"], known) == ()
    assert enough_before(RECIPES["int8-minmax"], [FLOAT, Tried(mixed, "missed", 0.6, 0.05)]) == ()
