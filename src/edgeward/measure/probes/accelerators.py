"""Accelerators: the driver and its version, and the version of the library beside it."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import accelerators, sysfs
from edgeward.measure.probes.base import Probe, Reading, What, measured, said, unreadable
from edgeward.records.target import AcceleratorFound

_LIBRARIES = {
    "hailo8": "libhailort.so*", "hailo10h": "libhailort.so*", "hailo15": "libhailort.so*",
    "edge-tpu": "libedgetpu.so*", "intel-npu": "libze_intel_vpu.so*", "amd-xdna": "libxrt_coreutil.so*",
    "nvidia-gpu": "libcuda.so*", "jetson-gpu": "libnvinfer.so*", "rockchip-npu": "librknnrt.so*",
    "hexagon": "libQnnHtp.so*", "vip8000": "libvx_delegate.so*", "ethos-u65": "libethosu_delegate.so*",
    "neutron": "libneutron_delegate.so*", "tidl": "libtidl_tfl_delegate.so*", "intel-gpu": "libze_intel_gpu.so*",
    "amd-gpu": "libamdhip64.so*",
}  # fmt: skip
_FOLDERS = ("usr/lib", "usr/lib/*-linux-gnu*", "usr/local/lib", "opt/*/lib")


class Accelerators:
    def read(self, root: Path) -> Iterator[Reading]:
        for found in accelerators.find(root):
            yield _driver(found, root)
            yield from _library(found, root)
        for file in sysfs.entries(root / "sys/class/apex", "apex_*/temp"):
            yield measured(file, What(f"Edge TPU {file.parent.name}", "temperature", "°C"), scale=1e-3, least=-40)
        for file in sysfs.entries(root / "sys/class/accel", "accel*/device/npu_busy_time_us"):
            yield measured(file, What(f"NPU {file.parent.parent.name}", "busy since boot", "s"), scale=1e-6)
        for file in sysfs.entries(root / "sys/class/drm", "card*/device/gpu_busy_percent"):
            yield measured(file, What(f"GPU {file.parent.parent.name}", "busy", "share"), scale=0.01, most=1.0)


def _driver(found: AcceleratorFound, root: Path) -> Reading:
    what = What(found.name, "driver")
    if found.driver is None:
        return unreadable(found.node or "", what, f"not readable: {found.reason}")
    file = root / "sys/module" / found.driver / "version"
    if not file.exists():  # most drivers of the kernel itself have no number of their own
        return Reading(name=found.name, quantity="driver", unit="", value=found.driver, path=str(file.parent))
    version = said(file, what)
    return version if version.fault else Reading(
        name=found.name, quantity="driver", unit="", value=f"{found.driver} {version.value}", path=str(file)
    )  # fmt: skip


def _library(found: AcceleratorFound, root: Path) -> Iterator[Reading]:
    """By the longest file name, which ends in the version: libhailort.so.4.20.0."""
    pattern = _LIBRARIES.get(found.kind)
    if pattern is None:
        return
    files = [file for folder in _FOLDERS for file in sysfs.entries(root, f"{folder}/{pattern}")]
    if not files:
        yield unreadable(
            pattern, What(found.name, "library"), f"not readable: no {pattern[:-1]} below /usr/lib or /opt"
        )
        return
    file = max(files, key=lambda path: len(path.name))
    yield Reading(name=found.name, quantity="library", unit="", value=file.name, path=str(file))


plugin: Probe = Accelerators()
