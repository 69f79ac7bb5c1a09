"""Which variant of a bundle fits a device: a rule over what an index says of each, before any of it is fetched."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from edgeward.bundle import layout as oci
from edgeward.bundle.versions import accepts
from edgeward.kit.errors import Refused, Unsupported, WrongInput
from edgeward.records.candidate import Measurement

RUNTIME, VERSIONS = "io.edgeward.runtime", "io.edgeward.runtime-versions"
MEASURED_ON, P50, PEAK_MEMORY = "io.edgeward.measured-on", "io.edgeward.p50-ms", "io.edgeward.peak-memory-bytes"
SIZE = "io.edgeward.model-bytes"
_MEMORY_MARGIN = 2.0


class Device(NamedTuple):
    """What a device has. `name` is its target's, `runtimes` are those that really run there, with their versions;
    those that `come_along` are brought with the bundle, in the version that it wants."""

    name: str
    runtimes: Mapping[str, str]
    memory_bytes: int
    come_along: Collection[str] = ()


class Judged(NamedTuple):
    """One variant. `refused` says why it does not fit, None where it does; `why` why it stands where it stands."""

    digest: str
    runtime: str
    refused: str | None
    why: str
    p50_ms: float | None
    size_bytes: int | None


def judge(index: bytes, device: Device) -> tuple[Judged, ...]:
    """Every variant that an image index lists, the best first. Raises Refused for what is no index of variants."""
    entries = oci.decode(index, oci.OciIndex, "the index").manifests
    found = [_judged(entry, device) for entry in entries]
    return tuple(sorted(found, key=_order))


def choose(index: bytes, device: Device, failed: Collection[str] = ()) -> str:
    """The digest of the best one; one that `failed` there comes after all others. Raises Unsupported with every reason
    where none fits."""
    judged = judge(index, device)
    fitting = sorted((one for one in judged if one.refused is None), key=lambda one: one.digest in failed)
    if not fitting:
        reasons = "; ".join(f"{one.runtime}: {one.refused}" for one in judged) or "it lists none"
        raise Unsupported(f"no variant fits {device.name}: {reasons}")
    return fitting[0].digest


def annotations_of(measured: Sequence[Measurement], model_bytes: int) -> dict[str, str]:
    """What an index says of a variant besides what the variant's manifest says itself.

    The first target's figures have plain keys, those of the others end in the target's name.
    """
    said = {SIZE: str(model_bytes)}
    if measured:
        said[MEASURED_ON] = measured[0].target
    for number, one in enumerate(measured):
        end = f".{one.target}" if number else ""
        said |= {f"{P50}{end}": f"{one.latency.p50_ms:.4g}", f"{PEAK_MEMORY}{end}": str(one.peak_memory_bytes)}
    return said


def _judged(entry: oci.OciDescriptor, device: Device) -> Judged:
    said = entry.annotations
    runtime, versions = said.get(RUNTIME), said.get(VERSIONS, "")
    if entry.artifact_type != oci.MODEL_TYPE or runtime is None:
        raise Refused(f"the index lists {entry.digest}, which is no variant of a bundle")
    end = "" if said.get(MEASURED_ON) == device.name else f".{device.name}"
    p50_ms = _number(said.get(f"{P50}{end}"))
    why = f"measured on {device.name}: p50 {p50_ms:g} ms" if p50_ms is not None else _elsewhere(said)
    size = _number(said.get(SIZE))
    return Judged(
        entry.digest, runtime, _refusal(runtime, versions, said, device), why, p50_ms,
        None if size is None else int(size),
    )  # fmt: skip


def _refusal(runtime: str, versions: str, said: Mapping[str, str], device: Device) -> str | None:
    if runtime not in device.runtimes and runtime not in device.come_along:
        return f"{runtime} does not run on {device.name}"
    try:
        if runtime in device.runtimes and not accepts(versions, device.runtimes[runtime]):
            return f"wants {runtime} {versions}, there is {device.runtimes[runtime]}"
    except WrongInput as error:
        return error.message
    peak = _number(said.get(f"{PEAK_MEMORY}.{device.name}") or said.get(PEAK_MEMORY))
    if peak is not None and _MEMORY_MARGIN * peak > device.memory_bytes:
        return f"wants {_MEMORY_MARGIN * peak / 1e6:.0f} MB of memory, there are {device.memory_bytes / 1e6:.0f}"
    return None


def _order(one: Judged) -> tuple[bool, bool, float, int]:
    """What fits, then what was measured on such a device, the fastest first; else the smallest."""
    is_measured = one.p50_ms is not None
    return one.refused is not None, not is_measured, one.p50_ms or 0.0, one.size_bytes or 0


def _elsewhere(said: Mapping[str, str]) -> str:
    return f"measured on {said[MEASURED_ON]} alone" if MEASURED_ON in said else "not measured"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
