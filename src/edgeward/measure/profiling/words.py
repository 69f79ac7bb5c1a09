"""What a profile says in sentences: the same ones on a terminal and on the page."""

from collections import Counter

from edgeward.records.profile import Loss, ModelProfile

_LONGEST = 30


def milliseconds(value: float) -> str:
    """ "0.234 ms", or microseconds below a tenth of one."""
    if abs(value) < 0.1:
        return f"{value * 1000:.1f} µs" if abs(value) < 0.01 else f"{value * 1000:.0f} µs"
    return f"{value:.3g} ms"


def percent(share: float) -> str:
    """A share for people; small ones with a decimal."""
    return f"{100 * share:.1f} %" if abs(share) < 0.095 else f"{100 * share:.0f} %"


def summary(found: ModelProfile) -> list[str]:
    """How long it takes, what the limit is, and what the profiler cost."""
    peaks = ", ".join(f"{_short(kind)} {rate:.0f} GOP/s" for kind, rate in found.roofs.gops_per_s.items())
    passes = ", ".join(f"{band.level} {band.gb_per_s:.0f} GB/s" for band in found.roofs.bandwidths)
    lines = [
        f"A run takes {milliseconds(found.time_ms)} ({found.runs} runs without the profiler, p50 "
        f"{milliseconds(found.p50_ms)}); by the measured limits it could take {milliseconds(found.limit_ms)}: "
        f"{percent(found.share_of_limit)} of what {found.roofs.runtime} gets from this machine at best.",
        f"Limits measured here: {peaks}; {passes}.",
    ]
    if found.profiled_ms is not None:
        cost = found.profiled_ms / found.time_ms - 1
        lines.append(
            f"The layers add up to {milliseconds(found.layers_ms)} ({percent(found.layers_ms / found.time_ms)}); "
            f"under the profiler a run took {percent(abs(cost))} {'longer' if cost >= 0 else 'less'}."
        )
    return lines


def figures(loss: Loss) -> str:
    """ "0.12 ms (40 %): changes of layout, 3 layers" """
    many = (
        f", {len(loss.layers)} layers" if len(loss.layers) > 1 else f", {short(loss.layers[0])}" if loss.layers else ""
    )
    beside = _BESIDE.get(loss.kind, "") if loss.beside else ""
    return f"{milliseconds(loss.time_ms)} ({percent(loss.share)}): {loss.title}{many}{beside}"


_BESIDE = {"threads": ", counted in the others too", "memory": ", which the limit allows for"}


def placed(found: ModelProfile) -> str:
    """Where the operators ran, by time and by count."""
    fates = Counter(node.fate for node in found.nodes)
    shares = ", ".join(f"{percent(share)} {device}" for device, share in found.devices.items())
    parts = [f"{fates['ran']} ran in kernels of their own"]
    if fates["fused"]:
        parts.append(f"{fates['fused']} were fused into them")
    if fates["folded"]:
        parts.append(f"{fates['folded']} were computed at load")
    if fates["removed"]:
        parts.append(f"{fates['removed']} cost nothing")
    return f"Placement of the layers' time: {shares}. Of {len(found.nodes)} operators {', '.join(parts)}."


def short(name: str, longest: int = _LONGEST) -> str:
    """The part of a name that tells most: the end of a path."""
    parts = [part for part in name.split(";") if "ReadVariableOp" not in part] or [name]
    said = parts[-1] if len(parts) > 1 and "  " not in name else name
    return said if len(said) <= longest else f"…{said[1 - longest :]}"


def _short(precision: str) -> str:
    return {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(precision, precision)
