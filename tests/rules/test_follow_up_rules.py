"""What is tried next follows from what was measured."""

import pytest

from edgeward.optimize.follow_ups import follow_ups, remedies_of, with_remedies
from edgeward.optimize.propose import AS_GIVEN, Tried, is_another, recipes
from edgeward.optimize.quicker import quicker
from edgeward.records.candidate import Recipe

CPU = ("x86_64", ("avx2", "avx512_vnni"))
KNOWN = {recipe.name: recipe for recipe in recipes(*CPU)}
GIVEN = Tried(Recipe(name=AS_GIVEN, steps=()), "kept", 1.0, 0.0)
ALL = ("percentile", "equalized", "rounded", "corrected", "refit")


def tried(name: str, alone_ms: float, drop: float = 0.0, *remedies: str) -> Tried:
    recipe = with_remedies(KNOWN[name], frozenset(remedies)) if remedies else KNOWN[name]
    return Tried(recipe, "kept" if drop <= 0.01 else "missed", alone_ms, drop)


def names(*all_tried: Tried, seen: tuple[str, ...] = ()) -> set[str]:
    begun = {one.recipe.name for one in all_tried} | set(seen)
    return {recipe.name for recipe in follow_ups((GIVEN, *all_tried), 0.01, begun)}


def test_recipes_to_begin_with_have_no_remedies():
    assert len(KNOWN) == len(recipes(*CPU))
    assert not any(remedies_of(recipe) for recipe in KNOWN.values())


def test_the_fastest_that_lost_nothing_is_only_fitted_again():
    assert names(tried("openvino-int8-minmax", 0.5), tried("int8-minmax", 0.9)) == {
        "openvino-int8-minmax-refit",
        "openvino-int8-minmax-lean",
    }


def test_in_litert_one_scale_for_each_tensor_is_tried_too():
    found = names(tried("litert-int8-minmax", 0.5))
    assert found == {"litert-int8-minmax-refit", "litert-int8-minmax-lean", "litert-int8-minmax-tensor"}
    new = {recipe.name: recipe for recipe in follow_ups((GIVEN, tried("litert-int8-minmax", 0.5)), 0.01, ())}
    options = [step.options for step in new["litert-int8-minmax-tensor"].steps if step.use == "quantize-static"]
    assert [option["per_channel"] for option in options] == [False]
    again = Tried(new["litert-int8-minmax-tensor"], "kept", 0.5, 0.0)
    assert "litert-int8-minmax-tensor-refit" in names(again)
    assert not [name for name in names(again) if "tensor-tensor" in name]


def test_a_noticeable_loss_asks_for_other_value_ranges():
    found = names(tried("litert-int8-minmax", 0.5, 0.005))
    assert found == {
        "litert-int8-minmax-refit",
        "litert-int8-percentile",
        "litert-int8-minmax-lean",
        "litert-int8-minmax-tensor",
    }


def test_a_lean_form_follows_the_two_fastest_once():
    slower, lean = tried("openvino-int8-minmax", 0.53), names(tried("litert-int8-minmax", 0.5))
    found = names(tried("litert-int8-minmax", 0.5), tried("int8-minmax", 0.52), slower)
    assert {name for name in found if "lean" in name} == {"litert-int8-minmax-lean", "int8-minmax-lean"}
    new = {recipe.name: recipe for recipe in follow_ups((GIVEN, tried("litert-int8-minmax", 0.5)), 0.01, ())}
    again = Tried(new["litert-int8-minmax-lean"], "kept", 0.45, 0.0)
    assert [step.use for step in again.recipe.steps][3] == "drop-constant-channels"
    assert "litert-int8-minmax-lean-refit" in names(again)
    assert not [name for name in names(again, seen=tuple(lean)) if name.count("lean") > 1]


def test_what_did_not_help_is_not_built_upon():
    base = tried("openvino-int8-minmax", 0.5, 0.004)
    no_better, better = (tried("openvino-int8-minmax", 0.5, drop, "percentile") for drop in (0.003, 0.001))
    assert "openvino-int8-percentile-refit" not in names(base, no_better)
    assert "openvino-int8-percentile-refit" in names(base, better)


def test_a_missed_gate_is_treated_in_stages_on_the_fastest():
    missed = (tried("litert-int8-minmax", 0.5, 0.2), tried("int8-minmax", 0.7, 0.2))
    first = names(*missed)
    assert first == {"litert-int8-percentile", "litert-int8-entropy", "litert-int8-mse"}
    better = (*missed, tried("litert-int8-minmax", 0.5, 0.1, "mse"))
    second = names(*better, seen=tuple(first))
    assert second == {"litert-int8-mse-equalized", "litert-int8-mse-rounded", "litert-int8-mse-corrected"}


def test_what_was_enough_in_one_runtime_is_tried_in_the_others():
    found = names(
        tried("litert-int8-minmax", 0.5, 0.2),
        tried("litert-int8-minmax", 0.5, 0.0, "corrected"),
        tried("openvino-int8-minmax", 0.45, 0.2),
        tried("int8-minmax", 0.9, 0.2),
    )
    assert "openvino-int8-minmax-corrected" in found
    assert not {name for name in found if name.startswith("int8")}


def test_what_is_slower_than_the_best_that_keeps_the_gate_is_left():
    assert names(tried("litert-int8-minmax", 0.5), tried("openvino-int8-minmax", 0.6, 0.2)) == {
        "litert-int8-minmax-lean",
        "litert-int8-minmax-refit",
        "litert-int8-minmax-tensor",
    }


@pytest.mark.parametrize("drop", [0.0, 0.005, 0.2])
@pytest.mark.parametrize("runs", [True, False])
def test_asking_comes_to_an_end(drop, runs):
    known = [GIVEN, tried("litert-int8-minmax", 0.5, drop), tried("int8-minmax", 0.5, drop)]
    seen = {one.recipe.name for one in known}
    while new := follow_ups(known, 0.01, seen):
        seen |= {recipe.name for recipe in new}
        known += [Tried(recipe, "kept" if drop < 0.01 else "missed", 0.5, drop) for recipe in new if runs]
        assert len(seen) < 100
    assert len({one.recipe.name for one in known}) == len(known)


@pytest.mark.parametrize("name", ["litert-int8-minmax", "int8-minmax-tensor-blocked", "openvino-int8-minmax"])
def test_remedies_are_put_on_and_taken_off(name):
    treated = with_remedies(KNOWN[name], frozenset(ALL))
    assert remedies_of(treated) == frozenset(ALL)
    assert with_remedies(treated, frozenset()) == KNOWN[name]
    uses = [step.use for step in treated.steps]
    place = uses.index("quantize-static")
    assert uses[place - 2 : place + 2] == ["split-heads", "round-learned", "quantize-static", "correct-bias"]


def test_a_float_model_that_is_fastest_is_tried_in_half_the_bytes():
    assert names(tried("openvino-float32", 0.5)) == {
        "openvino-float32-refit", "openvino-float32-half", "openvino-float32-lean",
    }  # fmt: skip
    [half] = [r for r in follow_ups((GIVEN, tried("openvino-float32", 0.5)), 0.01, ()) if r.name.endswith("half")]
    assert [step.use for step in half.steps][-2:] == ["half", "strip"]


def test_arm_with_half_precision_arithmetic_tries_it():
    assert "float16" in {recipe.name for recipe in recipes("aarch64", ("asimd", "fphp", "asimdhp"))}
    assert "float16" not in {recipe.name for recipe in recipes("aarch64", ("asimd",))}


def test_what_only_some_people_install_is_tried_where_it_works():
    assert not any(is_another(recipe.runtime) for recipe in recipes(*CPU))
    found = {recipe.name for recipe in recipes(*CPU, others=["executorch", "tensorrt", "tvm"])} - {*KNOWN}
    wanted = {"executorch-float32", "executorch-int8-minmax", "tensorrt-float32", "tensorrt-int8-minmax"}
    assert found == {*wanted, "tvm-float32"}


def test_float_layers_of_int8_that_misses_are_tried_in_bfloat16():
    modern = {recipe.name: recipe for recipe in recipes("x86_64", ("avx512_vnni", "avx512_bf16"))}
    assert "openvino-bf16-int8-minmax" not in modern
    known = [GIVEN, Tried(modern["openvino-bf16"], "kept", 0.9, 0.0)]
    kept, missed = (Tried(modern["openvino-int8-minmax"], told, 0.5, 0.2) for told in ("kept", "missed"))
    assert "openvino-bf16-int8-minmax" not in {recipe.name for recipe in follow_ups([*known, kept], 0.01, ())}
    [twin] = [r for r in follow_ups([*known, missed], 0.01, ()) if r.name == "openvino-bf16-int8-minmax"]
    assert twin.runtime == "openvino-bf16"


def test_what_a_bias_gained_is_asked_for_with_layers_in_float_too_however_long_those_took_alone():
    base, helped = tried("openvino-int8-minmax", 0.20, 0.003), tried("openvino-int8-minmax", 0.28, -0.02, "refit")
    (quantiser,) = (place for place, step in enumerate(base.recipe.steps) if step.use == "quantize-static")
    (found,) = quicker(base.recipe, ["a", "b"], {"a": -1.0, "b": 1.0}, {"openvino-int8-minmax-tail",
                       "openvino-int8-minmax-quick-tail"})  # fmt: skip
    assert found.steps[quantiser].options["keep_float"] == "a"
    slow_alone = Tried(found, "kept", 0.27, 0.005)
    assert "openvino-int8-minmax-quick-refit" in names(base, helped, slow_alone)
    refit = next(one for one in follow_ups((GIVEN, base, helped, slow_alone), 0.01, ()) if one.name.endswith("k-refit"))
    assert [step.options["keep_float"] for step in refit.steps if step.use == "quantize-static"] == ["a"]
    in_vain = tried("openvino-int8-minmax", 0.28, 0.003, "refit")
    assert "openvino-int8-minmax-quick-refit" not in names(base, in_vain, slow_alone)
