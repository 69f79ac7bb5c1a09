"""A model on a machine → its profile: one process runs it, another measures the roofs, and the rules do the rest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeward import __version__
from edgeward.infer import runtimes
from edgeward.infer.node_times import undisturbed
from edgeward.kit import codec
from edgeward.kit.clock import Clock
from edgeward.kit.errors import EdgewardError, Failed, WrongInput
from edgeward.measure.conditions import Conditions, throttled
from edgeward.measure.jobs import Contender
from edgeward.measure.measurement import setting_of
from edgeward.measure.place import HERE, Place, PlaceLost
from edgeward.measure.profiling.accounts import Told, told_of
from edgeward.measure.profiling.fates import Fates
from edgeward.measure.profiling.layers import Work, layers_of
from edgeward.measure.profiling.limits_of_layers import Limit, limit_of
from edgeward.measure.profiling.losses import Facts, clock_remarks, losses, reason_of
from edgeward.measure.profiling.onnx_graph import source_graph, with_numbers
from edgeward.measure.profiling.roofs import measure_roofs, raised
from edgeward.measure.profiling.source_graph import SourceGraph
from edgeward.records.candidate import Setting
from edgeward.records.profile import ModelProfile, PlacedNode, ProfiledLayer, Roofs

Feeds = Sequence[Mapping[str, NDArray[Any]]]
_ALL_THREADS_S = 0.5
_DISTURBED = 0.1
_LONG_MS = 0.01
"""What a layer takes at least that counts as evidence of a peak: profilers tell whole microseconds."""


class Given(NamedTuple):
    """A model in a runtime, and the inputs of the samples that it is run on (batch axis included)."""

    name: str
    model: bytes
    runtime: str
    threads: int
    feeds: Feeds


def profile(
    given: Given,
    *,
    seconds: float,
    clock: Clock,
    place: Place = HERE,
    stage: Callable[[str, float], None] = lambda *_: None,
) -> ModelProfile:
    """All of it at `place`. Takes about `seconds` and five more for the roofs.

    Raises what loading and running the model raise, and what a place raises.
    """
    before = place.conditions()
    stage("running the model", 0.05)
    is_onnx = "onnx" in runtimes.load(given.runtime).formats
    numbered, graph = _read(given, is_onnx=is_onnx)
    told = told_of(
        given.runtime, given.model, numbered, given.feeds, threads=given.threads, seconds=seconds, place=place
    )  # fmt: skip
    stage("running it on all CPUs", 0.45)
    cpus = place.facts.cpu_count
    on_all = _on_all(given, cpus, place) if cpus > given.threads else None
    stage("measuring the roofs", 0.55)
    roofs = measure_roofs(given.runtime, given.threads, place)
    after = place.conditions()
    works, fates = layers_of(told.account, graph)
    if not works:
        raise Failed(f"{given.name}: {given.runtime} told of no operator that it ran")
    whole_ms = undisturbed(told.plain_ms)
    facts = Facts(
        whole_ms=whole_ms, between_ms=whole_ms - sum(work.time_ms for work in works), threads=given.threads, cpus=cpus,
        all_threads_ms=on_all, governor=before.governor, throttled=throttled(before, after),
        main_device=_main_device(given.runtime, works),
    )  # fmt: skip
    return _made(given, told, graph, (works, fates), roofs, facts, _about(given, before, place), clock)


def _read(given: Given, *, is_onnx: bool) -> tuple[bytes, SourceGraph]:
    """The model with operators called after their places, where its format lets it be; and its own graph."""
    if is_onnx:
        try:
            model = onnx.load_model_from_string(given.model)
        except Exception as error:
            raise WrongInput(f"{given.name}: this is no ONNX model: {error}") from error
        shapes = {name: value.shape for name, value in given.feeds[0].items()}
        return with_numbers(model), source_graph(model, shapes)
    from edgeward.measure.profiling import litert_graph

    return given.model, litert_graph.source_graph(given.model)


def _on_all(given: Given, cpus: int, place: Place) -> float | None:
    """Milliseconds of a whole run on every CPU that we may use; None where it does not run so."""
    try:
        told = told_of(
            given.runtime, given.model, given.model, given.feeds[:1], threads=cpus, seconds=_ALL_THREADS_S, place=place
        )  # fmt: skip
    except PlaceLost:
        raise
    except EdgewardError:
        return None
    return undisturbed(told.plain_ms)


def _main_device(runtime: str, works: Sequence[Work]) -> str:
    """Where the runtime is meant to run: what is elsewhere fell back."""
    if runtime.startswith("litert"):
        return "XNNPACK" if any(work.device == "XNNPACK" for work in works) else "CPU"
    others = [work.device for work in works if work.device != "CPU"]
    return max(set(others), key=others.count) if others else "CPU"


def _made(
    given: Given, told: Told, graph: SourceGraph, ran: tuple[tuple[Work, ...], Fates], roofs: Roofs, facts: Facts,
    where: tuple[str, Setting], clock: Clock,
) -> ModelProfile:  # fmt: skip
    works, fates = ran
    roofs = raised(roofs, [_reached(work) for work in works if work.macs and work.time_ms > _LONG_MS])
    model_bytes = sum(work.kept_bytes for work in works)
    limits = [limit_of(work, roofs, model_bytes=model_bytes) for work in works]
    reasons = [reason_of(work, limit, roofs, facts.main_device) for work, limit in zip(works, limits, strict=True)]
    layers = _layers(works, limits, reasons, graph, facts.whole_ms)
    limit_ms = sum(limit.time_ms for limit in limits if limit is not None)
    devices: dict[str, float] = {}
    for work in works:
        devices[work.device] = devices.get(work.device, 0.0) + work.time_ms
    spent = sum(work.time_ms for work in works)
    return ModelProfile(
        model=given.name, digest=codec.digest_of(given.model), target=where[0],
        setting=where[1], taken_at=clock.now(), time_ms=facts.whole_ms,
        p50_ms=float(np.median(told.plain_ms)), runs=len(told.plain_ms),
        profiled_ms=undisturbed(told.profiled_ms) if told.profiled_ms else None, layers_ms=spent,
        between_ms=facts.between_ms, layers=layers, nodes=_placed(graph, fates, layers),
        devices={device: time / spent for device, time in devices.items()}, roofs=roofs, limit_ms=limit_ms,
        share_of_limit=limit_ms / facts.whole_ms, losses=losses(works, limits, reasons, facts),
        remarks=_remarks(told, roofs, facts, given), edgeward_version=__version__,
    )  # fmt: skip


def _about(given: Given, before: Conditions, place: Place) -> tuple[str, Setting]:
    """The machine's name, and the setting."""
    contender = Contender("", given.runtime, given.threads, "")
    return place.facts.name, setting_of(contender, before, place)


def _reached(work: Work) -> tuple[str, float]:
    return work.precision, 2 * (work.macs or 0) / work.time_ms / 1e6


def _layers(
    works: Sequence[Work], limits: Sequence[Limit | None], reasons: Sequence[str], graph: SourceGraph, whole_ms: float
) -> tuple[ProfiledLayer, ...]:
    running, cumulative = 0.0, dict[int, float]()
    for place in sorted(range(len(works)), key=lambda place: -works[place].time_ms):
        running += works[place].time_ms
        cumulative[place] = running / whole_ms
    return tuple(
        _layer(place, works[place], limits[place], reasons[place], graph, (whole_ms, cumulative[place]))
        for place in range(len(works))
    )


def _layer(
    place: int, work: Work, limit: Limit | None, reason: str, graph: SourceGraph, of: tuple[float, float]
) -> ProfiledLayer:
    seconds = work.time_ms / 1000
    return ProfiledLayer(
        name=work.name, op=work.op, place=place, nodes=tuple(graph.nodes[at].name for at in work.places),
        shape="×".join(map(str, work.shape)) if work.shape is not None else "", time_ms=work.time_ms,
        share=work.time_ms / of[0], cumulative=of[1], device=work.device, precision=work.precision, kernel=work.kernel,
        macs=work.macs, operations=work.operations, moved_bytes=work.moved_bytes,
        gops_per_s=work.operations / seconds / 1e9 if work.operations is not None and seconds else None,
        gb_per_s=work.moved_bytes / seconds / 1e9 if work.moved_bytes is not None and seconds else None,
        limit_ms=limit.time_ms if limit else None,
        share_of_limit=limit.time_ms / work.time_ms if limit and work.time_ms else None,
        bound=limit.bound if limit else "unknown", loss=reason,
    )  # fmt: skip


def _placed(graph: SourceGraph, fates: Fates, layers: Sequence[ProfiledLayer]) -> tuple[PlacedNode, ...]:
    return tuple(
        PlacedNode(
            name=node.name, op=node.op, fate=fate,
            device=layers[kernel].device if kernel is not None else "",
            layer=layers[kernel].name if kernel is not None else "",
        )
        for node, (fate, kernel) in zip(graph.nodes, fates.of_nodes, strict=True)
    )  # fmt: skip


def _remarks(told: Told, roofs: Roofs, facts: Facts, given: Given) -> tuple[str, ...]:
    said = list(clock_remarks(facts))
    if abs(facts.between_ms) > _DISTURBED * facts.whole_ms and facts.between_ms < 0:
        said.append(
            "the layers under the profiler add up to more than the run without it: other work on the machine disturbed "
            "one of the two, or the profiler weighs on layers this small; a quiet machine or a longer --seconds tells"
        )
    if told.account.remark:
        said.append(told.account.remark)
    if told.placement:
        said.append(told.placement)
    if any(not np.isfinite(value).all() for feed in given.feeds for value in feed.values() if value.dtype.kind == "f"):
        said.append("the data hold values that are not finite (NaN or infinite): some kernels take longer on them")
    largest = roofs.bandwidths[-1].up_to_bytes if roofs.bandwidths else 0
    if roofs.last_level_bytes > largest / 2:
        said.append(
            f"the last-level cache ({roofs.last_level_bytes >> 20} MiB, as the machine says) holds more than the "
            f"largest pass over memory ({largest >> 20} MiB): a part of it came from that cache"
        )
    return tuple(said)
