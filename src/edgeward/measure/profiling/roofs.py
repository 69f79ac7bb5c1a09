"""What this machine gives to a runtime's own kernels: multiplications by precision, and memory by how much is moved."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from edgeward.infer import runtimes
from edgeward.infer.runtimes import NodeTime
from edgeward.kit.errors import EdgewardError
from edgeward.measure.jobs import MemoryRead
from edgeward.measure.node_times import node_times
from edgeward.measure.place import HERE, Place, PlaceLost
from edgeward.measure.profiling import roof_models
from edgeward.measure.profiling.roof_models import RoofModel, compute_models
from edgeward.records.profile import Bandwidth, Level, Roofs

_HEAVY = ("Conv", "Gemm", "MatMul", "FullyConnected", "CONV_2D", "FULLY_CONNECTED")
_SECONDS = 1.2
_ROUNDS = 2
_LEVELS: tuple[Level, ...] = ("cache", "last-level cache", "memory")
_CACHE_BYTES = 1 << 18
"""Small enough for the second-level cache of every machine that we know of."""
_LAST_LEVEL_BYTES = 24 << 20
_MEMORY_BYTES = 192 << 20
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


class _Family(NamedTuple):
    """How the roofs of a family of runtimes are measured: models by precision, and the pass over memory."""

    precisions: dict[str, Callable[[], tuple[RoofModel, ...]]]
    over_memory: Callable[[int], RoofModel]


def measure_roofs(runtime: str, threads: int, place: Place = HERE) -> Roofs:
    """Of the machine at `place`; takes about two seconds. Raises Unsupported for a runtime that keeps no account."""
    family = _litert() if runtime.startswith("litert") else _onnx(runtime, place.facts.arch)
    memory = place.memory()
    compute = [(precision, model) for precision, make in family.precisions.items() for model in make()]
    passes = [family.over_memory(size // 8) for size in _sizes(memory)]
    smoke = RoofModel("nothing", runtimes.load(runtime).smoke_model())
    models = [model for _, model in compute] + passes + [smoke]
    taken = _taken(runtime, models, threads, place)
    rates = [
        (precision, model.operations / ms / 1e6, model.name)
        for (precision, model), ms in zip(compute, taken, strict=False)
        if ms
    ]
    best = {precision: max(rate for kind, rate, _ in rates if kind == precision) for precision, _, _ in rates}
    best |= _elsewhere(runtime, threads, place)
    moved = [
        Bandwidth(level=level, up_to_bytes=model.moved_bytes, gb_per_s=model.moved_bytes / ms / 1e6)
        for level, model, ms in zip(_LEVELS, passes, taken[len(compute) : -1], strict=True)
        if ms
    ]
    return Roofs(
        runtime=runtime, threads=threads, gops_per_s=best, bandwidths=tuple(moved),
        call_ms=taken[-1], last_level_bytes=memory.last_level_bytes,
        setting=f"{runtime} {place.version(runtime)}, {threads} thread{'s' if threads > 1 else ''}: "
        "the fastest of "
        + ", ".join(shape.name for shape in roof_models.SHAPES)
        + "; "
        + ", ".join(model.name for model in passes),
    )  # fmt: skip


def _taken(runtime: str, models: Sequence[RoofModel], threads: int, place: Place) -> list[float]:
    """Milliseconds of each, 0 for one that did not run. All take turns, and twice in processes of their own: what other
    work on the machine adds in one of them is left out."""
    found = [0.0] * len(models)
    for _ in range(_ROUNDS):
        told = node_times(
            runtime,
            [model.data for model in models],
            threads=threads,
            seconds=_SECONDS,
            together=len(models),
            place=place,
        )
        for at, (model, nodes) in enumerate(zip(models, told, strict=True)):
            ms = 0.0 if isinstance(nodes, str) else _milliseconds(nodes, heavy=model.operations > 0)
            found[at] = min(found[at] or ms, ms or found[at])
    return found


def raised(roofs: Roofs, reached: Sequence[tuple[str, float]]) -> Roofs:
    """With the peaks that the model's own layers reached (precision, GOP/s), where these are higher: no limit is lower
    than what was seen."""
    best = dict(roofs.gops_per_s)
    for precision, rate in reached:
        if precision in best:
            best[precision] = max(best[precision], rate)
    return replace(roofs, gops_per_s=best)


def _milliseconds(nodes: Sequence[NodeTime], *, heavy: bool) -> float:
    """Of what multiplies, or of all but changes of layout."""
    if heavy:
        return sum(node.time_ms for node in nodes if any(word in node.kernel for word in _HEAVY))
    return sum(node.time_ms for node in nodes if not node.is_conversion)


def _onnx(runtime: str, arch: str) -> _Family:
    activations = "uint8" if arch == "x86_64" or runtime.startswith("openvino") else "int8"
    in_float = "bfloat16" if runtime.endswith("-bf16") else "float32"
    return _Family(
        {
            in_float: lambda: compute_models(roof_models.onnx_float),
            "int8": lambda: compute_models(roof_models.onnx_int8(activations)),
        },
        roof_models.onnx_pass,
    )


def _litert() -> _Family:
    from edgeward.measure.profiling import litert_roofs

    return _Family(
        {
            "float32": lambda: compute_models(litert_roofs.litert_float),
            "int8": lambda: compute_models(litert_roofs.litert_int8),
        },
        litert_roofs.litert_pass,
    )


def _elsewhere(runtime: str, threads: int, place: Place) -> dict[str, float]:
    """OpenVINO's bfloat16 where this CPU has it: what the same kernels give at less precision."""
    other = {"openvino": "openvino-bf16", "openvino-bf16": "openvino"}.get(runtime)
    if other is None or not set(_BF16) & set(place.facts.cpu_features):
        return {}
    models = compute_models(roof_models.onnx_float)
    try:
        told = node_times(other, [model.data for model in models], threads=threads, seconds=0.4, place=place)
    except PlaceLost:
        raise
    except EdgewardError:
        return {}
    rates = [
        model.operations / ms / 1e6
        for model, nodes in zip(models, told, strict=True)
        if not isinstance(nodes, str) and (ms := _milliseconds(nodes, heavy=True))
    ]
    return {"bfloat16" if other.endswith("bf16") else "float32": max(rates)} if rates else {}


def _sizes(memory: MemoryRead) -> tuple[int, ...]:
    """Bytes that lie in the cache of a core, in that of the chip, and beyond as far as may be tried."""
    last = memory.last_level_bytes
    middle = min(_LAST_LEVEL_BYTES, max(2 * _CACHE_BYTES, last // 2)) if last else 8 * _CACHE_BYTES
    beyond = min(max(_MEMORY_BYTES, 2 * last), max(memory.available_bytes // 6, 2 * middle), 2 * _MEMORY_BYTES)
    return _CACHE_BYTES, middle, beyond
