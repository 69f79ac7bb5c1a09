"""What a device is, when its Python cannot carry our measuring: by the files of its kernel, read here."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from edgeward.infer import runtimes
from edgeward.kit.clock import Clock
from edgeward.kit.errors import Failed
from edgeward.measure import accelerators, machine, naming
from edgeward.measure.carry import Errand
from edgeward.measure.smoke import TEST_MEMBERS
from edgeward.records.target import Machine, RuntimeFound

_MODULES = ("edgeward", "edgeward.measure", "edgeward.measure.snapshot")
_LINKS = ("driver",)
_CPU, _CLASS, _PCI = "sys/devices/system/cpu", "sys/class", "sys/bus/pci/devices/*"
PATTERNS = (
    "proc/cpuinfo", "proc/meminfo", "proc/loadavg", "proc/pressure/*", "proc/sys/kernel/hostname",
    "proc/sys/kernel/osrelease", "proc/device-tree/model", "proc/device-tree/compatible",
    "proc/device-tree/hypervisor/compatible", "etc/os-release", "etc/hostname", "run/systemd/container", ".dockerenv",
    "run/.containerenv", "sys/hypervisor/type", f"{_CPU}/online", f"{_CPU}/cpufreq/policy*/scaling_governor",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/devices/platform/soc*/*firmware/get_throttled",
    *(f"{_CLASS}/dmi/id/{name}" for name in ("sys_vendor", "product_name", "board_vendor", "board_name")),
    f"{_CLASS}/thermal/thermal_zone*/temp", f"{_CLASS}/thermal/cooling_device*/type",
    f"{_CLASS}/thermal/cooling_device*/cur_state",
    f"{_CLASS}/hwmon/hwmon*/name", f"{_CLASS}/hwmon/hwmon*/in0_lcrit_alarm",
    *(f"{_PCI}/{name}" for name in ("vendor", "device", "class", "driver", "accel/accel[0-9]*", "drm/renderD[0-9]*")),
    *(f"sys/bus/usb/devices/*/{name}" for name in ("idVendor", "idProduct", "busnum", "devnum", "speed")),
    f"{_CLASS}/accel/accel[0-9]*/device/driver", f"{_CLASS}/drm/renderD[0-9]*/device/driver",
    "dev/dri/renderD*", "dev/accel/accel*", "dev/bus/usb/*/*",
)  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """One path of a snapshot: a file's bytes, a link, or only that it is there."""

    file: str | None = None
    link: str | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """What `measure/snapshot.py` took along."""

    files: Mapping[str, Entry]
    python: str
    arch: str
    storage_free_bytes: int
    hostname: str


def machine_afar(host: str, why: str, clock: Clock, options: Sequence[str] = ()) -> tuple[Machine, str]:
    """The machine and the name of machines like it; none of its runtimes was tried, for the reason `why`.

    Raises what an Errand raises.
    """
    taken = _taken(host, options)
    with TemporaryDirectory(prefix="edgeward-afar-") as folder:
        root = Path(folder)
        lay_out(root, taken.files, host)
        told = machine.machine_of(root, _not_tried(why), clock.now())
        name = naming.target_name(root)
    own = {"python": taken.python, "arch": taken.arch, "storage_free_bytes": taken.storage_free_bytes}
    return replace(told, **own), name


def _taken(host: str, options: Sequence[str]) -> Snapshot:
    patterns = [*PATTERNS, *(node for family in accelerators.FAMILIES for node in family.nodes)]
    with Errand(host, _MODULES, {"patterns": patterns, "links": _LINKS}, options) as errand:
        said = next(iter(errand))
    try:
        return msgspec.convert(said, Snapshot)
    except msgspec.ValidationError as error:
        raise Failed(f"{host} gave another answer than it was asked for: {error}") from None


def _not_tried(why: str) -> tuple[RuntimeFound, ...]:
    names = [name for name in runtimes.names() if name not in TEST_MEMBERS and "-" not in name]
    return tuple(RuntimeFound(name=name, version=None, works=False, reason=f"not tried: {why}") for name in names)


def lay_out(root: Path, files: Mapping[str, Entry], host: str) -> None:
    """The snapshot as a tree under `root`. Raises Failed for a path that would lie beside it."""
    for name, entry in files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\0" in name:
            raise Failed(f"{host} sent a file under a name that is none: {name!r}")
        path = root / inside
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.link is not None:
                path.symlink_to(PurePosixPath(entry.link).name or "nowhere")
            elif not path.is_dir():
                path.write_bytes(base64.b64decode(entry.file or "", validate=True))
        except (OSError, ValueError, binascii.Error) as error:
            raise Failed(f"{host} sent {name!r}, which cannot be kept: {error}") from None
