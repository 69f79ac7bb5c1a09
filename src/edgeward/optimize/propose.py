"""What is worth trying on a machine: rules from CPU features to recipes. Nothing here measures."""

from collections.abc import Collection

from edgeward.records.candidate import Recipe, Step

AS_GIVEN = "as-given"
"""The name of the candidate that is the model as the user gave it."""

_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def recipes(arch: str, cpu_features: Collection[str]) -> tuple[Recipe, ...]:
    """Recipes in the order worth trying: cheap and likely first.

    Weights are int8. Activations are uint8 on x86, whose dot-product instructions take unsigned by signed, and on
    Arm both are tried. Without a dot-product instruction x86 sums pairs of products in 16 bits, which overflow with
    full-range weights: then they get seven bits (reduced range).
    """
    reduced = arch == "x86_64" and not _DOT_PRODUCT & set(cpu_features)
    signs = ("uint8", "int8") if arch == "aarch64" else ("uint8",)
    found = [_recipe("float32", None)]
    for activations in signs:
        name = f"int8-{'u8s8' if activations == 'uint8' else 's8s8'}"
        common: dict[str, bool | int | float | str] = {"activations": activations, "reduce_range": reduced}
        found += [
            _recipe(f"{name}-minmax", {**common, "method": "minmax", "per_channel": True}),
            _recipe(f"{name}-percentile", {**common, "method": "percentile", "per_channel": True}),
            _recipe(f"{name}-entropy", {**common, "method": "entropy", "per_channel": True}),
            _recipe(f"{name}-minmax-per-tensor", {**common, "method": "minmax", "per_channel": False}),
        ]
    return tuple(found)


def _recipe(name: str, quantize: dict[str, bool | int | float | str] | None) -> Recipe:
    middle = () if quantize is None else (Step(use="quantize-static", options=quantize),)
    return Recipe(name=name, steps=(Step(use="simplify"), Step(use="fold-preprocess"), *middle, Step(use="strip")))
