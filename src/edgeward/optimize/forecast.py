"""CPU features and a micro-benchmark at the model's own layer shapes → what int8 will gain here, layer by layer.

int8 is a hypothesis: it is told before the work, and the report sets it against what was measured.
"""

import math
from collections.abc import Collection, Sequence
from time import perf_counter
from typing import NamedTuple

import onnx
from msgspec.structs import replace

from edgeward.kit import log
from edgeward.measure.place import HERE, Place
from edgeward.optimize import passes
from edgeward.optimize.layer_times import Cost, LayerTimes, measure_layers, work_s
from edgeward.optimize.layers import LayerShape, layer_shapes
from edgeward.optimize.named_layers import HEAVY, with_names
from edgeward.records.candidate import Forecast, Layer, RuntimeForecast, Step, Trial

_BASELINE = "onnxruntime"
_DOT_PRODUCT = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
_TINY_MS = 0.003
_CLEAR = 1.1
"""A gain nearer to 1 than this is called none."""
_MOST_REASONS = 4
_PLAIN_STEPS = (
    "simplify", "fold-preprocess", "fold-leading", "join-heads", "split-heads", "quantize-static", "refit-bias",
    "strip",
)  # fmt: skip
"""Of a recipe that was forecast; what is split off or left in float besides was not."""
_VERBS = {"gain": "gain", "lose": "lose", "keep": "stay as fast"}
_FEW_CHANNELS = 4
_MACS_PER_WEIGHT_READ_ONCE = 4
_SMALLEST_MEMORY_BOUND_BYTES = 1 << 20


class Outlook(NamedTuple):
    """The forecast, and the graph that it was made for: simplified, with names."""

    told: Forecast
    graph: onnx.ModelProto


def look_ahead(
    model: onnx.ModelProto, place: Place, *, threads: int, in_time: bool = True, known: Forecast | None = None
) -> Outlook:
    """What int8 will gain for this float model there: as is `known` already, or by timing its layers, which takes
    about three seconds for a small model.

    Where there is nothing to forecast from (the model has no layer whose shape is known, the place is another machine,
    there is no time), the forecast says so and is empty.
    """
    try:
        return _looked_ahead(model, place, threads, known, in_time=in_time)
    except Exception as error:  # noqa: BLE001 - a forecast that fails on a model nobody has seen must not end the search
        log.debug("no-forecast", error=error)
        return _without_forecast(with_names(model), place, f"it failed with {type(error).__name__}")


def _looked_ahead(
    model: onnx.ModelProto, place: Place, threads: int, known: Forecast | None, *, in_time: bool
) -> Outlook:
    start_s = perf_counter()
    facts = place.facts
    context = passes.Context([], "tensor", (), 0, None)
    graph = with_names(passes.load("simplify").apply(model, Step(use="simplify"), context).model)
    if known is not None:
        return Outlook(known, graph)
    shapes = layer_shapes(graph)
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        return _without_forecast(graph, place, "the model is quantised already")
    if not any(shape.op in HEAVY for shape in shapes):
        said = "there is no convolution or matrix product in float whose shape is known before it runs"
        return _without_forecast(graph, place, said)
    if not in_time:
        said = f"the time limit is too short for it; {_by_features(facts.cpu_features)}"
        return _without_forecast(graph, place, said)
    if place is not HERE:
        said = f"layers are timed alone on this machine only; {_by_features(facts.cpu_features)}"
        return _without_forecast(graph, place, said)
    reduced = facts.arch == "x86_64" and not _dot_product(facts.cpu_features)
    order = {node.name: number for number, node in enumerate(graph.graph.node)}
    times = measure_layers(shapes, facts.cpu_features, threads=threads, reduced=reduced)
    made = told_from(shapes, times, facts.cpu_features, order)
    return Outlook(replace(made, cpu=facts.cpu, took_s=round(perf_counter() - start_s, 3)), graph)


def lead_of(told: Forecast) -> str | None:
    """The runtime in which int8 is forecast to be the fastest; None without a forecast."""
    return told.runtimes[0].runtime if told.runtimes and told.runtimes[0].gain is not None else None


def _without_forecast(graph: onnx.ModelProto, place: Place, reason: str) -> Outlook:
    told = f"no forecast for int8: {reason}"
    return Outlook(Forecast(cpu=place.facts.cpu, summary=told, runtimes=(), layers=(), covered=0.0, took_s=0.0), graph)


def told_from(
    shapes: Sequence[LayerShape], times: LayerTimes, features: Collection[str], order: dict[str, int]
) -> Forecast:
    """The forecast that the times give; `order` is each node's place in the graph."""
    found = sorted(
        (_runtime_forecast(runtime, times) for runtime in (*times.costs, *times.refused)),
        key=lambda runtime: -(runtime.speedup or runtime.gain or 0.0),
    )
    whole_s = sum(work_s(shape) * len(shape.names) for shape in shapes)
    ran = [any(costs[place] is not None for costs in times.costs.values()) for place in range(len(times.shapes))]
    run_s = sum(work_s(shape) * len(shape.names) for shape, did in zip(times.shapes, ran, strict=True) if did)
    lead = found[0].runtime if found and found[0].gain is not None else None
    layers = sorted(_layers(times, lead, features), key=lambda layer: order.get(layer.name, len(order)))
    return Forecast(
        cpu="", summary=_summary(found, features), runtimes=tuple(found), layers=_with_shares(layers),
        covered=round(min(1.0, run_s / whole_s), 4) if whole_s else 0.0, took_s=0.0,
    )  # fmt: skip


def _runtime_forecast(runtime: str, times: LayerTimes) -> RuntimeForecast:
    if runtime in times.refused:
        return RuntimeForecast(runtime=runtime, gain=None, why=times.refused[runtime])
    costs = times.costs[runtime]
    total = _total(times.shapes, costs)
    if total is None:
        return RuntimeForecast(runtime=runtime, gain=None, why="none of the layers ran there alone")
    given = _total(times.shapes, times.costs.get(_BASELINE, ()), like=costs)
    mine = _total(times.shapes, costs, like=times.costs.get(_BASELINE, ()))
    speedup = given.float_ms / mine.int8_ms if given is not None and mine is not None else None
    return RuntimeForecast(
        runtime=runtime, gain=round(total.gain, 3), speedup=None if speedup is None else round(speedup, 3),
        why=_whys_in_all(times, runtime),
    )  # fmt: skip


def _total(
    shapes: Sequence[LayerShape], costs: Sequence[Cost | None], like: Sequence[Cost | None] | None = None
) -> Cost | None:
    """Of all layers that ran (in `like` too); None when none did."""
    pairs = [
        (len(shape.names), cost)
        for shape, cost, other in zip(shapes, costs, costs if like is None else like, strict=False)
        if cost is not None and other is not None
    ]
    if not pairs:
        return None
    return Cost(sum(count * cost.float_ms for count, cost in pairs), sum(count * cost.int8_ms for count, cost in pairs))


def _whys_in_all(times: LayerTimes, runtime: str) -> str:
    """How many layers gain, how many lose, and how many cost nothing or did not run."""
    counts = {"gain": 0, "keep": 0, "lose": 0, "not timed": 0}
    for shape, cost in zip(times.shapes, times.costs[runtime], strict=True):
        counts["not timed" if cost is None else _word(cost.gain)] += len(shape.names)
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _word(gain: float) -> str:
    return "gain" if gain > _CLEAR else "lose" if gain < 1 / _CLEAR else "keep"


def _summary(found: Sequence[RuntimeForecast], features: Collection[str]) -> str:
    """One line: what int8 will gain, and the reason that lies in the CPU."""
    told = [f"{one.speedup or one.gain:.1f}× in {one.runtime}" for one in found if one.gain is not None]
    if not told:
        return "no forecast for int8: none of its layers ran alone in the runtimes that are installed"
    best = max(one.speedup or one.gain or 0.0 for one in found)
    verdict = "will pay" if best > _CLEAR else "will gain nothing" if best > 1 / _CLEAR else "will cost time"
    return f"int8 {verdict} here: {', '.join(told)}, against the model as given; {_by_features(features)}"


def _by_features(features: Collection[str]) -> str:
    dot = _dot_product(features)
    return f"this CPU has {dot}, which sums int8 products" if dot else "this CPU has no int8 dot-product instruction"


def _dot_product(features: Collection[str]) -> str:
    """The instruction that sums int8 products, the widest this CPU has; empty for none."""
    return next((feature for feature in _DOT_PRODUCT if feature in features), "")


def _layers(times: LayerTimes, lead: str | None, features: Collection[str]) -> list[Layer]:
    made = []
    for place, shape in enumerate(times.shapes):
        found = {runtime: cost for runtime, costs in times.costs.items() if (cost := costs[place]) is not None}
        cost = found.get(lead) if lead else None
        given = found.get(_BASELINE)
        made += [
            Layer(
                name=name, op=_named(shape), time_ms=None if given is None else round(given.float_ms, 6),
                forecast_gain=None if cost is None else round(cost.gain, 3),
                forecast_gains={runtime: round(one.gain, 3) for runtime, one in found.items()},
                why="" if cost is None else why(shape, cost, _used_by(lead, features)), placement="timed alone",
            )
            for name in shape.names
        ]  # fmt: skip
    return made


def _used_by(runtime: str | None, features: Collection[str]) -> Collection[str]:
    """The features that a runtime uses: LiteRT is kept from AMX (litert-amx is not)."""
    return [feature for feature in features if runtime != "litert" or feature != "amx_int8"]


def _named(shape: LayerShape) -> str:
    return f"{shape.op} depthwise" if shape.is_depthwise else shape.op


def _with_shares(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    whole = sum(layer.time_ms or 0.0 for layer in layers)
    return tuple(
        replace(layer, share=round(layer.time_ms / whole, 4)) if layer.time_ms and whole else layer for layer in layers
    )


def why(shape: LayerShape, cost: Cost, features: Collection[str]) -> str:
    """The likeliest reason of a layer's gain or loss, from what kind of layer it is."""
    dot, word = _dot_product(features), _word(cost.gain)
    if shape.stays_float:
        return "stays in float, between two conversions"
    if shape.op not in HEAVY:
        return "moves values and multiplies hardly any" + ("; int8 moves a quarter" if word == "gain" else "")
    if max(cost) < _TINY_MS:
        return "so small that calling it costs more than its sums"
    if shape.is_depthwise:
        taps = math.prod(shape.float_model.graph.initializer[0].dims[2:])
        few = f"depthwise: {taps} products to a sum, too few to fill a dot-product instruction"
        return few if word != "gain" else f"depthwise: {taps} products to a sum; int8 moves a quarter of the bytes"
    if _reads_weights_once(shape):
        return "reads each weight once: memory decides, and int8 reads a quarter"
    if word == "gain":
        return f"{dot} sums four int8 products at once" if dot else "four times as many values in a register"
    if shape.op == "Conv" and shape.input_shapes[0][1] < _FEW_CHANNELS:
        channels = (
            "one input channel" if shape.input_shapes[0][1] == 1 else f"{shape.input_shapes[0][1]} input channels"
        )
        return f"only {channels}: integer kernels take four at once"
    if not dot:
        return "no int8 dot-product instruction: products are summed in pairs of 16 bits"
    return "this runtime's integer kernel is no faster at this shape"


def _reads_weights_once(shape: LayerShape) -> bool:
    few_sums = shape.macs <= _MACS_PER_WEIGHT_READ_ONCE * (shape.weight_bytes // 4)
    return shape.weight_bytes >= _SMALLEST_MEMORY_BOUND_BYTES and few_sums


def lines(told: Forecast) -> tuple[str, ...]:
    """The forecast for a person at a terminal: what int8 will gain, and on which layers it hangs."""
    if not told.layers or not told.runtimes:
        return (told.summary,)
    parts = [
        f"  {len(one.layers)} of {len(told.layers)} layers {one.verb}, {one.share * 100:.0f} % of the time: {one.why}"
        for one in reasons(told.layers)
    ]
    return (told.summary, f"layer by layer in {told.runtimes[0].runtime}:", *parts[:_MOST_REASONS])


class Reason(NamedTuple):
    """Layers that int8 does the same to for the same reason, and their share of the time."""

    verb: str
    why: str
    layers: tuple[Layer, ...]
    share: float


def reasons(layers: Sequence[Layer]) -> tuple[Reason, ...]:
    """Why layers gain or lose, the largest share of the time first."""
    groups: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        if layer.forecast_gain is not None:
            groups.setdefault((_VERBS[_word(layer.forecast_gain)], layer.why), []).append(layer)
    found = [
        Reason(verb, why, tuple(mine), sum(layer.share or 0.0 for layer in mine))
        for (verb, why), mine in groups.items()
    ]
    return tuple(sorted(found, key=lambda reason: -reason.share))


def saved_ms(told: Forecast, graph: onnx.ModelProto, runtime: str) -> dict[str, float]:  # noqa: ARG001 - by name
    """Of each layer, the milliseconds that int8 saves in a runtime, were its float layer as fast there as in the
    baseline's: what is asked is which layers save more than others, and which none."""
    return {
        layer.name: (layer.time_ms or _TINY_MS) * (1 - 1 / layer.forecast_gains[runtime])
        for layer in told.layers
        if layer.forecast_gains.get(runtime)
    }


def with_truth(told: Forecast, trials: Sequence[Trial], baseline: Trial) -> Forecast:
    """The forecast beside what was measured: in each runtime, its fastest static int8 candidate."""
    return replace(told, runtimes=tuple(_measured(one, trials, baseline) for one in told.runtimes))


def _measured(one: RuntimeForecast, trials: Sequence[Trial], baseline: Trial) -> RuntimeForecast:
    """Of a race where both ran in it, else of each alone: that is noisier, and a gain or a loss shows all the same."""
    mine = [trial for trial in trials if trial.runtime == one.runtime]
    for time_of in (_raced_ms, _alone_ms):
        given_ms = time_of(baseline)
        quantised = [(ms, trial) for trial in mine if is_static_int8(trial) and (ms := time_of(trial)) is not None]
        quantised = [pair for pair in quantised if _is_plain(pair[1])] or quantised
        if given_ms is None or not quantised:
            continue
        best_ms, best = min(quantised, key=lambda pair: pair[0])
        floats_ms = [ms for trial in mine if _is_float(trial) and (ms := time_of(trial)) is not None]
        return replace(
            one, recipe=best.recipe, measured_speedup=round(given_ms / best_ms, 3),
            measured_gain=round(min(floats_ms) / best_ms, 3) if floats_ms else None, is_alone=time_of is _alone_ms,
        )  # fmt: skip
    return one


def _raced_ms(trial: Trial) -> float | None:
    return trial.latency_ms.p50 if trial.latency_ms else None


def _alone_ms(trial: Trial) -> float | None:
    return trial.alone_ms


def is_static_int8(trial: Trial) -> bool:
    """Whether it is one of those that the forecast is about."""
    return any(step.use == "quantize-static" for step in trial.steps)


def _is_plain(trial: Trial) -> bool:
    """Whether all of it is in int8 and each layer as it was: what was forecast, neither more nor less."""
    kept_float = any(step.options.get("keep_float") for step in trial.steps)
    return not kept_float and all(step.use in _PLAIN_STEPS for step in trial.steps)


def _is_float(trial: Trial) -> bool:
    """The float model by the same passes, or as it was given."""
    return not any(step.use.startswith("quantize") for step in trial.steps) and trial.precision in ("", "float32")
