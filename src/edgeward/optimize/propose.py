"""What is worth trying on a machine: rules from CPU features to recipes. Nothing here measures."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from edgeward.records.candidate import Recipe, Step

AS_GIVEN = "as-given"
"""The name of the candidate that is the model as the user gave it."""

Options = dict[str, bool | int | float | str]

HEAD = (Step(use="simplify"), Step(use="fold-preprocess"), Step(use="fold-leading"))
"""What every recipe begins with."""
_PIXELS_HEAD = (HEAD[0], Step(use="fold-preprocess", options={"pixels": True}), HEAD[2])
"""In OpenVINO, which reads pixels where they lie."""
_UNROUNDED = Step(use="fold-leading", options={"rounded": False})
"""Where no activation is rounded."""
QUANTISER = "quantize-static"
LEAN = "drop-constant-channels"
SPLITTER = "split-heads"
JOINER = "join-heads"
FOR_HEADS = (SPLITTER, JOINER)
"""One stands before each quantiser, one in each recipe for OpenVINO. Without such heads they change nothing."""
REMEDIES = {
    "equalized": "equalize", "rounded": "round-learned", "corrected": "correct-bias",
    "refit": "refit-bias",
}  # fmt: skip
"""Passes that change what a model answers, and hardly what it costs, by what they add to a recipe's name."""
BFLOAT16 = "openvino-bf16"
"""The runtime whose float layers are computed in bfloat16."""
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "amx_int8"}
_FLOAT16 = {"asimdhp", "fphp"}
"""As Linux calls half-precision arithmetic on Arm."""

_VARIANTS = {"tensor", "blocked"}
_VARIANT_GAIN = 1.2
"""More than these have been seen to gain."""
_PRODUCTS_SHARE = 0.25
_SYMMETRIC = {"tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda", "onnxruntime-qnn"}
"""These take int8 activations around zero only."""

Outcome = Literal["kept", "missed", "failed"]


class Tried(NamedTuple):
    """What became of a recipe: "kept" every limit, "missed" the accuracy gate, or "failed" to run, to keep another
    limit or to be fast enough. `alone_ms` is an inference alone, `quality_drop` from the model as given."""

    recipe: Recipe
    outcome: Outcome
    alone_ms: float
    quality_drop: float


def recipes(arch: str, cpu_features: Collection[str], others: Collection[str] = ()) -> tuple[Recipe, ...]:
    """Recipes to begin with, in the order worth trying: cheap and likely first.

    Weights are int8. Activations are uint8 on x86, whose dot-product instructions take unsigned by signed, and on
    Arm both are tried. Without a dot-product instruction x86 sums pairs of products in 16 bits, which overflow with
    full-range weights: then they get seven bits (reduced range). "-tensor": one scale for a tensor of weights, else
    one for each channel. "-blocked": a first convolution over few channels reads in blocks of pixels.

    LiteRT and OpenVINO run the same graphs by other kernels. "-dynamic": weights of matrix products in int8 or int4,
    activations quantised by the runtime while it runs. `others` are the further runtimes that work there: accelerators
    that a machine has, and what only some people install.
    """
    reduced = arch == "x86_64" and not _DOT_PRODUCT & set(cpu_features)
    return (
        _recipe("float32", None),
        *((_float16(),) if _FLOAT16 & set(cpu_features) else ()),
        *_in_litert(cpu_features),
        *_in_openvino(cpu_features, reduced=reduced),
        *_in_onnxruntime(arch, reduced=reduced),
        *(recipe for runtime in others for recipe in _in_another(runtime, arch)),
    )


def is_plain_int8(recipe: Recipe) -> bool:
    """Whether it quantises, and is not a variant of another recipe that does."""
    return any(step.use == QUANTISER for step in recipe.steps) and not _VARIANTS & set(recipe.name.split("-"))


def slow_plain_form(recipe: Recipe, tried: Sequence[Tried]) -> str | None:
    """The recipe that this one is a variant of, by another grid of scales or another first convolution, where that one
    took far longer than the fastest that keeps the limits."""
    words = recipe.name.split("-")
    if not _VARIANTS & set(words):
        return None
    plain = "-".join(word for word in words if word not in _VARIANTS)
    fastest_ms = min((one.alone_ms for one in tried if one.outcome == "kept"), default=math.inf)
    slow = (one for one in tried if one.recipe.name == plain and one.alone_ms > _VARIANT_GAIN * fastest_ms)
    return next((one.recipe.name for one in slow), None)


def is_another(runtime: str) -> bool:
    """Whether a runtime is tried only where it is installed; the others, where missing, are reported as missing."""
    return runtime not in ("echo", "litert", "litert-amx", "onnxruntime", "openvino", "openvino-bf16")


def _in_onnxruntime(arch: str, *, reduced: bool) -> Iterator[Recipe]:
    yield _weights("int8-dynamic", 8, "onnxruntime")
    yield _weights("int4-dynamic", 4, "onnxruntime")
    for activations in ("uint8", "int8") if arch == "aarch64" else ("uint8",):
        prefix = "int8" if activations == "uint8" else "int8-signed"
        for per_channel in (True, False):
            name = f"{prefix}-minmax" + ("" if per_channel else "-tensor")
            options = _int8(activations, per_channel=per_channel, reduced=reduced)
            yield _recipe(name, options)
            if activations == "uint8":
                yield _recipe(f"{name}-blocked", options, blocked=True)


def _in_litert(cpu_features: Collection[str]) -> Iterator[Recipe]:
    for runtime in ("litert", "litert-amx") if "amx_int8" in cpu_features else ("litert",):
        yield _recipe(f"{runtime}-float32", None, runtime=runtime)
        yield _weights(f"{runtime}-int8-dynamic", 8, runtime)
        options = _int8("uint8", per_channel=True, reduced=False)
        yield _recipe(f"{runtime}-int8-minmax", options, runtime=runtime)


def _in_openvino(cpu_features: Collection[str], *, reduced: bool) -> Iterator[Recipe]:
    """In bfloat16 too where the CPU multiplies it."""
    yield _recipe("openvino-float32", None, runtime="openvino")
    options = _int8("uint8", per_channel=True, reduced=reduced) | {"entry": "cast", "float_tail": True}
    yield _recipe("openvino-int8-minmax", options, runtime="openvino")
    if _BFLOAT16 & set(cpu_features):
        yield _recipe(BFLOAT16, None, runtime=BFLOAT16)


def _in_another(runtime: str, arch: str) -> Iterator[Recipe]:
    if runtime == "onnxruntime-qnn" and arch == "x86_64":
        return  # Qualcomm's simulator: its times mean nothing
    yield _recipe(f"{runtime}-float32", None, runtime=runtime)
    if runtime == "tvm":
        return  # it has no integer convolution for what ONNX says: int8 is float with more work
    activations = "int8" if runtime in _SYMMETRIC else "uint8"
    yield _recipe(f"{runtime}-int8-minmax", _int8(activations, per_channel=True, reduced=False), runtime=runtime)


def _weights(name: str, bits: int, runtime: str) -> Recipe:
    """Weights of matrix products alone, where they are a fair share of all weights."""
    step = Step(use="quantize-weights", options={"bits": bits, "least_share": _PRODUCTS_SHARE})
    return Recipe(name=name, steps=(*HEAD, step, Step(use="strip")), runtime=runtime)


def _int8(activations: str, *, per_channel: bool, reduced: bool) -> Options:
    return {"method": "minmax", "per_channel": per_channel, "activations": activations, "reduce_range": reduced}


def _float16() -> Recipe:
    half = Step(use="half", options={"compute": "float16"})
    return Recipe(name="float16", steps=(*HEAD[:-1], _UNROUNDED, half, Step(use="strip")))


def _recipe(name: str, quantize: Options | None, *, blocked: bool = False, runtime: str = "onnxruntime") -> Recipe:
    in_openvino = runtime in ("openvino", BFLOAT16)
    head = _PIXELS_HEAD if in_openvino else HEAD
    head = (
        *((*head[:-1], _UNROUNDED) if quantize is None else head),
        *((Step(use=JOINER),) if in_openvino else ()),
        *((Step(use="block-first-conv"),) if blocked else ()),
    )
    middle = () if quantize is None else (Step(use=SPLITTER), Step(use=QUANTISER, options=quantize))
    return Recipe(name=name, steps=(*head, *middle, Step(use="strip")), runtime=runtime)


def family(recipe: Recipe) -> tuple[str, ...]:
    """What recipes that cost about the same have in common: the runtime, and the steps but for those that only change
    answers."""
    steps = []
    for step in recipe.steps:
        if step.use in REMEDIES.values():
            continue
        options = {name: value for name, value in step.options.items() if name != "method"}
        steps.append(f"{step.use} {sorted(options.items())}")
    return (recipe.runtime, *steps)
