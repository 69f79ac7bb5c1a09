"""`--require`: how much of a model must run where. Words → requirement, and requirement + layers → met or missed."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

from edgeward.kit.errors import WrongInput
from edgeward.records.profile import ModelProfile, ProfiledLayer, Requirement

Of = Literal["time", "macs", "nodes"]

_FORM = re.compile(r"([a-z][a-z0-9_]*)(?:-([a-z0-9]+))?:(\d+(?:\.\d+)?) ?%?(?::(time|macs|nodes))?")
_FAMILIES = {
    "CPU": ("cpu",), "XNNPACK": ("cpu", "xnnpack"), "Xnnpack": ("cpu", "xnnpack"), "ACL": ("cpu", "acl"),
    "Dnnl": ("cpu", "dnnl"), "CUDA": ("gpu", "cuda"), "Tensorrt": ("gpu", "tensorrt"),
    "NvTensorRTRTX": ("gpu", "tensorrt"), "ROCM": ("gpu", "rocm"), "MIGraphX": ("gpu", "migraphx"),
    "WebGpu": ("gpu", "webgpu"), "Dml": ("gpu",), "GPU": ("gpu",), "QNN": ("npu", "qnn"), "VitisAI": ("npu", "vitisai"),
    "NPU": ("npu",), "OpenVINO": ("openvino",), "Nnapi": ("npu", "nnapi"), "CoreML": ("npu", "coreml"),
}  # fmt: skip
"""Which words a back-end answers to."""
_PRECISIONS = {
    "int8": "int8", "uint8": "int8", "fp32": "float32", "float32": "float32", "f32": "float32", "fp16": "float16",
    "float16": "float16", "f16": "float16", "bf16": "bfloat16", "bfloat16": "bfloat16",
}  # fmt: skip
_HINT = "--require cpu-int8:90%, npu:95%, xnnpack:100%:nodes"


class Wanted(NamedTuple):
    """So much (0..1) of the time, the multiplications or the operators on this back-end, in this precision."""

    asked: str
    where: str
    precision: str
    share: float
    of: Of


def parse(text: str) -> Wanted:
    """Raises WrongInput for what is no requirement."""
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise WrongInput(f"--require {text!r}: wanted WHERE:N% or WHERE-PRECISION:N%", hint=_HINT)
    where, precision, percent, of = found.groups()
    known = sorted({word for words in _FAMILIES.values() for word in words})
    if where not in known:
        raise WrongInput(f"--require {text!r}: there is no back-end {where!r}; known: {', '.join(known)}", hint=_HINT)
    if precision and precision not in _PRECISIONS:
        raise WrongInput(
            f"--require {text!r}: there is no precision {precision!r}; known: {', '.join(_PRECISIONS)}", hint=_HINT
        )
    if not 0 < float(percent) <= 100:
        raise WrongInput(f"--require {text!r}: {percent} % is no share, wanted more than 0 and at most 100", hint=_HINT)
    return Wanted(
        text.strip(), where, _PRECISIONS.get(precision or "", ""), float(percent) / 100, cast(Of, of or "time")
    )


def judge(wanted: Wanted, profile: ModelProfile) -> Requirement:
    """What of the profile's layers is where it was wanted, and the layers that are not, those with most first."""
    weights = [_weight(layer, wanted.of) for layer in profile.layers]
    whole = sum(weights)
    missing = [(w, layer) for w, layer in zip(weights, profile.layers, strict=True) if w and not _fits(wanted, layer)]
    found = 1 - sum(w for w, _ in missing) / whole if whole else 0.0
    ranked = sorted(missing, key=lambda pair: -pair[0])
    return Requirement(
        asked=wanted.asked, wanted=wanted.share, found=round(found, 4), met=found >= wanted.share - 1e-9, of=wanted.of,
        missing=tuple(f"{layer.name} ({layer.op}: {_where(layer)})" for _, layer in ranked),
    )  # fmt: skip


def sentence(outcome: Requirement) -> str:
    """What came of it, with the nodes that miss it."""
    of = {"time": "of the layers' time", "macs": "of the multiply-accumulates", "nodes": "of the operators"}[outcome.of]
    said = f"--require {outcome.asked}: {_percent(outcome.found)} {of}, wanted {_percent(outcome.wanted)}"
    if outcome.met:
        return said
    named = ", ".join(outcome.missing[:5])
    rest = f" and {len(outcome.missing) - 5} more" if len(outcome.missing) > 5 else ""
    return f"{said}; elsewhere: {named}{rest}" if named else f"{said}; nothing of it ran"


def _weight(layer: ProfiledLayer, of: Of) -> float:
    if of == "time":
        return layer.time_ms
    return float(layer.macs or 0) if of == "macs" else float(len(layer.nodes))


def _fits(wanted: Wanted, layer: ProfiledLayer) -> bool:
    is_there = wanted.where in _FAMILIES.get(layer.device, (layer.device.lower(),))
    return is_there and wanted.precision in ("", layer.precision)


def _where(layer: ProfiledLayer) -> str:
    return " ".join(filter(None, (layer.device, layer.precision)))


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def failures(outcomes: Sequence[Requirement]) -> list[Requirement]:
    return [outcome for outcome in outcomes if not outcome.met]
