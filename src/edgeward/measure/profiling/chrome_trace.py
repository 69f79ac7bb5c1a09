"""A profile as a trace in Chrome's format, which Perfetto and chrome://tracing open."""

from typing import Any

from edgeward.records.profile import ModelProfile


def trace_of(profile: ModelProfile) -> dict[str, Any]:
    """One run: the layers in the order they ran, each as long as it usually takes; a row for each back-end."""
    rows = {device: place for place, device in enumerate(profile.devices, start=1)}
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"{profile.model} in {profile.roofs.runtime}"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "whole run"}},
        {"name": profile.model, "ph": "X", "pid": 1, "tid": 0, "ts": 0.0, "dur": _us(profile.time_ms), "cat": "run"},
    ]
    events += [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": device}}
        for device, row in rows.items()
    ]
    at = 0.0
    for layer in profile.layers:
        told = {
            "operators": ", ".join(layer.nodes), "shape": layer.shape, "precision": layer.precision,
            "kernel": layer.kernel, "macs": layer.macs, "GOP/s": layer.gops_per_s, "GB/s": layer.gb_per_s,
            "share of the limit": layer.share_of_limit, "bound": layer.bound,
        }  # fmt: skip
        events.append(
            {"name": f"{layer.op} {layer.name}", "cat": layer.op, "ph": "X", "pid": 1, "tid": rows[layer.device],
             "ts": round(at, 3), "dur": _us(layer.time_ms), "args": told}
        )  # fmt: skip
        at += layer.time_ms * 1000
    note = "medians laid end to end in the order of the run; the whole run was timed without the profiler"
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"note": note}}


def _us(milliseconds: float) -> float:
    return round(milliseconds * 1000, 3)
