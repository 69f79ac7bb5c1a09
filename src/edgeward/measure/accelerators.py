"""Compute units besides the CPU, found by bus ids, device-tree names and nodes, with what is missing to use them."""

import grp
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from edgeward.measure import sysfs
from edgeward.records.target import AcceleratorFound

DRIVEN_PROVIDERS: frozenset[str] = frozenset()
"""The providers that our runtimes run models on, besides the CPU's."""


class Family(NamedTuple):
    """How to recognise one kind of unit, and what drives it.

    `pci` and `usb` are vendor:device, where "*" stands for any device; such a PCI entry counts only for display
    controllers and accelerators. `soc` is the start of a device-tree name of the board or chip, `nodes` are
    patterns under the root, `render` names of kernel drivers of /dev/dri and /dev/accel nodes.
    """

    kind: str
    name: str
    needs: str
    driver: str
    pci: tuple[str, ...] = ()
    usb: tuple[str, ...] = ()
    soc: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    render: tuple[str, ...] = ()
    provider: str | None = None


FAMILIES = (
    Family("hailo8", "Hailo-8 or Hailo-8L", "HailoRT 4", "hailo_pci", pci=("1e60:2864",), nodes=("dev/hailo[0-9]*",)),
    Family("hailo10h", "Hailo-10H", "HailoRT 5", "hailo1x_pci", pci=("1e60:45c4",), nodes=("dev/hailo[0-9]*",)),
    Family("hailo15", "Hailo-15L", "HailoRT 5", "hailo1x_pci", pci=("1e60:43a2",), nodes=("dev/hailo[0-9]*",)),
    Family("edge-tpu", "Coral Edge TPU (PCIe)", "libedgetpu", "apex", pci=("1ac1:089a",), nodes=("dev/apex_[0-9]*",)),
    Family("edge-tpu", "Coral Edge TPU (USB)", "libedgetpu", "", usb=("1a6e:089a", "18d1:9302")),
    Family(
        "intel-npu", "Intel NPU", "OpenVINO", "intel_vpu", provider="OpenVINOExecutionProvider",
        pci=("8086:7d1d", "8086:ad1d", "8086:643e", "8086:b03e", "8086:fd3e"), nodes=("dev/accel/accel[0-9]*",),
    ),
    Family(
        "amd-xdna", "AMD XDNA NPU", "Ryzen AI", "amdxdna", provider="VitisAIExecutionProvider",
        pci=("1022:1502", "1022:17f0"), nodes=("dev/accel/accel[0-9]*",),
    ),
    Family("qualcomm-ai100", "Qualcomm Cloud AI 100", "the Qaic SDK", "qaic", pci=("17cb:a100",)),
    Family(
        "jetson-gpu", "NVIDIA Jetson GPU", "TensorRT or CUDA", "nvgpu", soc=("nvidia,tegra",),
        nodes=("dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl", "dev/nvmap"), provider="CUDAExecutionProvider",
    ),
    Family(
        "nvidia-gpu", "NVIDIA GPU", "CUDA", "nvidia", pci=("10de:*",), nodes=("dev/nvidia[0-9]*",),
        provider="CUDAExecutionProvider",
    ),
    Family("amd-gpu", "AMD GPU", "ROCm", "amdgpu", pci=("1002:*",), provider="MIGraphXExecutionProvider"),
    Family("intel-gpu", "Intel GPU", "OpenVINO", "i915", pci=("8086:*",), provider="OpenVINOExecutionProvider"),
    Family(
        "rockchip-npu", "Rockchip NPU", "librknnrt or Mesa Teflon", "rknpu or rocket",
        soc=("rockchip,rk3588", "rockchip,rk3576", "rockchip,rk3568", "rockchip,rk3566", "rockchip,rk3562"),
        render=("RKNPU", "rknpu", "rocket"),
    ),
    Family("vip8000", "VeriSilicon VIP8000 NPU", "TIM-VX", "galcore", soc=("fsl,imx8mp",), nodes=("dev/galcore",)),
    Family("ethos-u65", "Arm Ethos-U NPU", "the Ethos-U delegate", "ethosu", soc=("fsl,imx93",),
           nodes=("dev/ethosu0",), render=("ethosu",)),
    Family("neutron", "NXP eIQ Neutron NPU", "the Neutron delegate", "neutron", soc=("fsl,imx95",),
           nodes=("dev/neutron0",)),
    Family(
        "tidl", "TI C7x/MMA", "TI's build of ONNX Runtime", "remoteproc", provider="TIDLExecutionProvider",
        soc=("ti,am62a", "ti,am67a", "ti,am68", "ti,am69", "ti,j721e", "ti,j721s2", "ti,j722s", "ti,j784s4"),
        nodes=("dev/remoteproc*",),
    ),
    Family("hexagon", "Qualcomm Hexagon", "QNN", "fastrpc", nodes=("dev/fastrpc-cdsp*", "dev/adsprpc-smd"),
           provider="QNNExecutionProvider"),
    Family("apu", "MediaTek APU", "NeuroPilot", "apusys", nodes=("dev/apusys",)),
    Family("axera", "Axera NPU", "AXCL", "axcl_host", nodes=("dev/axcl_host",)),
    Family("memryx", "MemryX MX3", "the MemryX runtime", "memx", nodes=("dev/memx0",)),
    Family("synap", "Synaptics NPU", "SyNAP", "synap", nodes=("dev/synap",)),
    Family("deepx", "DEEPX NPU", "DXRT", "dxrt", nodes=("dev/dxrt0",)),
    Family("movidius", "Intel Movidius", "DepthAI", "", usb=("03e7:2485", "03e7:f63b")),
    Family("kneron", "Kneron KL520", "Kneron PLUS", "", usb=("3231:0100",)),
    Family("mali", "Arm Mali GPU", "a Vulkan or OpenCL runtime", "panthor, panfrost or kbase", nodes=("dev/mali0",),
           render=("panthor", "panfrost", "lima")),
    Family("videocore", "Broadcom VideoCore GPU", "a Vulkan runtime", "v3d", render=("v3d",)),
    Family("adreno", "Qualcomm Adreno GPU", "a Vulkan runtime", "msm", render=("msm",)),
    Family("vivante", "Vivante GPU or NPU", "Mesa Teflon", "etnaviv", render=("etnaviv",)),
)  # fmt: skip


class Seen(NamedTuple):
    """A unit before judgement: where it is and what is bound to it."""

    family: Family
    place: str
    node: str | None
    driver: str | None


def find(
    root: Path = sysfs.ROOT, *, offered: Collection[str] = (), driven: Collection[str] = DRIVEN_PROVIDERS
) -> tuple[AcceleratorFound, ...]:
    """Every unit seen, one entry each, with what is missing to use it.

    `offered` are the providers of the runtimes that work here, `driven` those that we run models on.
    """
    return tuple(_judged(seen, root, offered, driven) for seen in _seen(root))


def closed_to_user(node: Path) -> str | None:
    """The group whose members may open `node`; None when this user may, or when there is no such node."""
    try:
        status = node.stat()
    except OSError:
        return None
    if os.access(node, os.R_OK | os.W_OK):
        return None
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _judged(seen: Seen, root: Path, offered: Collection[str], driven: Collection[str]) -> AcceleratorFound:
    faults = [*_access_faults(seen, root), *_runtime_faults(seen.family, offered, driven)]
    good = f"{seen.family.provider} reaches it"
    return AcceleratorFound(
        kind=seen.family.kind,
        name=f"{seen.family.name} {seen.place}",
        node=seen.node,
        driver=seen.driver,
        usable=not faults,
        reason="; ".join(faults) or good,
    )


def _access_faults(seen: Seen, root: Path) -> Iterator[str]:
    family = seen.family
    if family.driver and seen.driver is None and seen.node is None:
        yield f"no kernel driver is bound (wanted: {family.driver})"
    elif family.driver and seen.node is None:
        yield f"driver {seen.driver} is bound, but there is no device node to open"
    if seen.node is not None and (group := closed_to_user(root / seen.node.lstrip("/"))):
        yield f"this user may not open {seen.node} (group {group})"


def _runtime_faults(family: Family, offered: Collection[str], driven: Collection[str]) -> Iterator[str]:
    if family.provider is None:
        yield f"edgeward has no runtime for it; {family.needs} drives it"
    elif family.provider not in offered:
        yield f"no installed runtime offers {family.provider}; {family.needs} drives it"
    elif family.provider not in driven:
        yield f"{family.provider} is installed, but edgeward runs models on the CPU only so far"


def _seen(root: Path) -> Iterator[Seen]:
    on_a_bus = [*_on_pci(root), *_on_usb(root)]
    yield from on_a_bus
    found = {seen.family.kind for seen in on_a_bus}
    for family in FAMILIES:
        if family.kind not in found and (seen := _on_chip(root, family)):
            found.add(family.kind)
            yield seen


def _on_pci(root: Path) -> Iterator[Seen]:
    for device in sysfs.entries(root / "sys/bus/pci/devices"):
        vendor, model = sysfs.number(device / "vendor"), sysfs.number(device / "device")
        if vendor is None or model is None:
            continue
        group = (sysfs.number(device / "class") or 0) >> 16
        for family in FAMILIES:
            exact = f"{vendor:04x}:{model:04x}" in family.pci
            # 0x03 is a display controller, 0x12 a processing accelerator; a sound chip of the same maker is neither.
            if exact or (f"{vendor:04x}:*" in family.pci and group in (0x03, 0x12)):
                driver = sysfs.link_name(device / "driver")
                yield Seen(family, f"at PCI {device.name}", _pci_node(root, device, family), driver)
                break


def _pci_node(root: Path, device: Path, family: Family) -> str | None:
    """The device's own node where sysfs names it; else the family's first node."""
    for pattern, folder in (("accel/accel[0-9]*", "accel"), ("drm/renderD[0-9]*", "dri")):
        for entry in sysfs.entries(device, pattern):
            node = f"dev/{folder}/{entry.name}"
            if (root / node).exists() and not family.nodes:
                return f"/{node}"
            if (root / node).exists() and folder == "accel":
                return f"/{node}"
    return _first_node(root, family)


def _on_usb(root: Path) -> Iterator[Seen]:
    for device in sysfs.entries(root / "sys/bus/usb/devices"):
        name = f"{sysfs.text(device / 'idVendor')}:{sysfs.text(device / 'idProduct')}"
        for family in FAMILIES:
            if name in family.usb:
                node = _usb_node(root, device)
                yield Seen(family, f"at USB {device.name}{_usb_speed(device)}", node, None)


def _usb_node(root: Path, device: Path) -> str | None:
    bus, number = sysfs.number(device / "busnum"), sysfs.number(device / "devnum")
    node = f"dev/bus/usb/{bus or 0:03d}/{number or 0:03d}"
    return f"/{node}" if (root / node).exists() else None


def _usb_speed(device: Path) -> str:
    speed = sysfs.number(device / "speed")
    if speed is None:
        return ""
    return " (USB 3)" if speed >= 5000 else " (USB 2: slow for this)"


def _on_chip(root: Path, family: Family) -> Seen | None:
    for folder, pattern in (("accel", "accel[0-9]*"), ("drm", "renderD[0-9]*")):
        for entry in sysfs.entries(root / "sys/class" / folder, pattern):
            driver = sysfs.link_name(entry / "device/driver")
            if driver in family.render:
                node = f"dev/{'dri' if folder == 'drm' else 'accel'}/{entry.name}"
                return Seen(family, "in the chip", f"/{node}" if (root / node).exists() else None, driver)
    is_soc = any(name.startswith(family.soc) for name in sysfs.words(root / "proc/device-tree/compatible"))
    if family.soc and not is_soc:
        return None
    place = None if family.pci else _first_node(root, family)
    return Seen(family, "in the chip", place, family.driver if place else None) if place or is_soc else None


def _first_node(root: Path, family: Family) -> str | None:
    for pattern in family.nodes:
        for node in sysfs.entries(root, pattern):
            return f"/{node.relative_to(root)}"
    return None
