"""int8 with layers in float for speed: which recipes are built upon, and which layers stay."""

from edgeward.optimize.follow_ups import follow_ups
from edgeward.optimize.propose import AS_GIVEN, Tried, recipes
from edgeward.optimize.quicker import bases, is_quicker, quicker
from edgeward.records.candidate import Recipe

KNOWN = {recipe.name: recipe for recipe in recipes("x86_64", ("avx2", "avx512_vnni"))}
GIVEN = Tried(Recipe(name=AS_GIVEN, steps=()), "kept", 1.0, 0.0)
LAYERS = ["first", "depthwise", "pointwise", "last"]


def tried(name: str, alone_ms: float, outcome: str = "kept") -> Tried:
    return Tried(KNOWN[name], outcome, alone_ms, 0.0)


def kept_float(recipe: Recipe) -> list[str]:
    return next(str(s.options["keep_float"]) for s in recipe.steps if s.use == "quantize-static").split(",")


def test_the_fastest_int8_of_each_runtime_is_built_upon_where_it_may_still_win():
    found = bases([
        GIVEN, tried("litert-int8-minmax", 0.5), tried("int8-minmax", 0.6), tried("int8-minmax-tensor", 0.55),
        tried("openvino-int8-minmax", 0.9), tried("litert-float32", 0.52),
    ])  # fmt: skip
    assert [recipe.name for recipe in found] == ["litert-int8-minmax", "int8-minmax-tensor"]


def test_what_missed_a_limit_is_not_built_upon():
    assert bases([GIVEN, tried("litert-int8-minmax", 0.5, "missed")]) == ()


def test_the_same_layers_are_not_tried_under_two_names():
    found = quicker(KNOWN["litert-int8-minmax"], LAYERS, {"last": -0.2}, ())
    assert [recipe.name for recipe in found] == ["litert-int8-minmax-tail"]


def test_layers_that_lose_by_int8_stay_in_float_and_the_last_one_is_tried_so():
    base = KNOWN["litert-int8-minmax"]
    quick, tail, both = quicker(base, LAYERS, {"first": 0.1, "depthwise": -0.2, "pointwise": 0.3, "last": 0.0}, ())
    assert (quick.name, kept_float(quick)) == ("litert-int8-minmax-quick", ["depthwise"])
    assert (tail.name, kept_float(tail)) == ("litert-int8-minmax-tail", ["last"])
    assert (both.name, kept_float(both)) == ("litert-int8-minmax-quick-tail", ["depthwise", "last"])
    assert [step.use for step in quick.steps][-2:] == ["half", "strip"]
    assert is_quicker(quick)
    assert not is_quicker(base)


def test_nothing_is_tried_twice_or_with_all_layers_in_float():
    base = KNOWN["litert-int8-minmax"]
    losing = dict.fromkeys(LAYERS, -0.1)
    assert [recipe.name for recipe in quicker(base, LAYERS, losing, ())] == ["litert-int8-minmax-tail"]
    assert list(quicker(base, ["only"], {}, ())) == []
    assert list(quicker(base, LAYERS, {}, {"litert-int8-minmax-tail"})) == []


def test_what_is_fastest_so_is_refined_like_others():
    base = KNOWN["litert-int8-minmax"]
    (tail,) = quicker(base, LAYERS, {}, ())
    seen = {base.name, tail.name}
    found = follow_ups((GIVEN, tried("litert-int8-minmax", 0.5), Tried(tail, "kept", 0.4, 0.0)), 0.01, seen)
    assert {recipe.name for recipe in found} == {
        "litert-int8-minmax-tail-refit", "litert-int8-minmax-tensor-tail", "litert-int8-minmax-tail-lean",
    }  # fmt: skip
    assert all(kept_float(recipe) == ["last"] for recipe in found)
