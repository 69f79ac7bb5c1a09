"""What a service needs to run a bundle: devices, memory, CPUs, time. Rules over its manifest, for every packer."""

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from edgeward.records.bundle import Manifest

T = TypeVar("T")
MEMORY_MARGIN = 2.0
"""A reload has the old and the new model in memory at once."""
REQUESTS_BYTES = 256 << 20
"""What the service holds of requests at most, of all clients together."""
_MIB = 1 << 20
_WATCHDOG_S, _START_S = 30, 90
_LARGEST_BATCH = 32


class Devices(NamedTuple):
    """Nodes of one kind of accelerator: paths, or "char-" and a group of /proc/devices. `groups` may open them."""

    nodes: tuple[str, ...]
    groups: tuple[str, ...] = ()


class Reach(NamedTuple):
    """What a pipeline's sources and sinks need besides its bundles. `hosts` are IP addresses, "localhost", or "" for
    one that is not known; `writes` folders outside of the service's own, `states` those in it; `credentials` are names
    and files that only root can read."""

    devices: Devices = Devices(())
    hosts: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()


class Needs(NamedTuple):
    """`memory_bytes` is None where the bundle was not measured. `makes_code` says why memory must be writable and
    executable at once, "" where it need not be. A service that ends no inference for `watchdog_s` hangs."""

    devices: Devices
    makes_code: str
    memory_bytes: int | None
    cpus: int
    watchdog_s: int
    start_s: int


_NVIDIA = Devices(("char-nvidia*", "char-nvhost*", "char-nvgpu*", "/dev/nvmap"))
_RENDER = Devices(("char-drm",), ("render",))
_ACCELERATORS = {
    "onnxruntime-cuda": _NVIDIA,
    "onnxruntime-tensorrt": _NVIDIA,
    "tensorrt": _NVIDIA,
    "onnxruntime-migraphx": Devices(("char-kfd", "char-drm"), ("render",)),
    "onnxruntime-openvino-gpu": _RENDER,
    "onnxruntime-openvino-npu": Devices(("char-accel",), ("render",)),
    "onnxruntime-webgpu": _RENDER,
    "onnxruntime-qnn": Devices(
        ("/dev/fastrpc-cdsp", "/dev/fastrpc-cdsp-secure", "/dev/adsprpc-smd", "char-dma_heap"), ("render",)
    ),
}
"""By runtime; one that is not here runs on the CPU."""

_MAKES_CODE = {
    "openvino": "OpenVINO writes its kernels while it loads a model",
    "onnxruntime-openvino": "OpenVINO writes its kernels while it loads a model",
    "onnxruntime-xnnpack": "this build of XNNPACK was not tried without it",
    "executorch": "its back-ends were not tried without it",
    "tvm": "what it runs was compiled by others",
    "tensorrt": "the GPU's driver compiles kernels at run time",
}
"""By the beginning of a runtime's name. The CPU kernels of ONNX Runtime and LiteRT are all compiled ahead."""


def needs_of(manifest: Manifest, threads: int | None = None) -> Needs:
    """What `manifest` needs on `threads` threads, by default on as many as it was measured with."""
    measured = manifest.measurement
    p99_s = measured.latency.p99_ms / 1e3 if measured else 0.0
    cold_s = measured.cold_start_ms / 1e3 if measured else 0.0
    devices = _ACCELERATORS.get(manifest.runtime, Devices(()))
    return Needs(
        devices=devices,
        makes_code=_why_code(manifest.runtime, devices),
        memory_bytes=None if measured is None else _memory(measured.peak_memory_bytes),
        cpus=(threads or manifest.thread_count) + 1,
        watchdog_s=math.ceil(_WATCHDOG_S + 2 * _LARGEST_BATCH * p99_s),
        start_s=math.ceil(_START_S + 10 * cold_s + manifest.self_test.deadline_s),
    )


def together(one: Needs, other: Needs) -> Needs:
    """What one process needs that runs both, the second in the threads of the first one."""
    known = one.memory_bytes is not None and other.memory_bytes is not None
    return Needs(
        devices=both(one.devices, other.devices),
        makes_code=one.makes_code or other.makes_code,
        memory_bytes=(one.memory_bytes or 0) + (other.memory_bytes or 0) if known else None,
        cpus=max(one.cpus, other.cpus),
        watchdog_s=one.watchdog_s + other.watchdog_s,
        start_s=one.start_s + other.start_s,
    )


def both(one: Devices, other: Devices) -> Devices:
    return Devices(_once(one.nodes + other.nodes), _once(one.groups + other.groups))


def joined(reaches: Iterable[Reach]) -> Reach:
    """What a pipeline needs whose parts need these."""
    whole = Reach()
    for one in reaches:
        whole = Reach(
            devices=both(whole.devices, one.devices),
            hosts=_once(whole.hosts + one.hosts),
            writes=_once(whole.writes + one.writes),
            states=_once(whole.states + one.states),
            credentials=_once(whole.credentials + one.credentials),
        )
    return whole


def _once(many: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(many))


def _memory(peak_bytes: int) -> int:
    """In whole mebibytes."""
    return math.ceil((MEMORY_MARGIN * peak_bytes + REQUESTS_BYTES) / _MIB) * _MIB


def _why_code(runtime: str, devices: Devices) -> str:
    for name, why in _MAKES_CODE.items():
        if runtime.startswith(name):
            return why
    return "the accelerator's driver may compile at run time" if devices.nodes else ""
