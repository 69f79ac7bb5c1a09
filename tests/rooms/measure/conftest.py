"""Recorded trees: the few files of /proc, /sys and /dev by which a machine is known, as the kernel writes them."""

from pathlib import Path

import pytest
from recorded_trees import grow

X86_FLAGS = "fpu sse2 fma f16c avx avx2 avx_vnni"
A76 = "fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
A55 = "fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
MEMORY = """MemTotal:        8245744 kB
MemFree:         5000000 kB
MemAvailable:    7000000 kB
SwapTotal:        102396 kB
SwapFree:         102396 kB
"""


def arm_cpus(*cores: tuple[str, str]) -> str:
    return "\n".join(
        f"processor\t: {index}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for index, (part, features) in enumerate(cores)
    )


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A machine that tells nothing at all."""
    root = tmp_path / "nothing"
    root.mkdir()
    return root


@pytest.fixture
def raspberry_pi(tmp_path: Path) -> Path:
    """A Raspberry Pi 5 with the AI kit (Hailo-8L), warm, on a weak power supply."""
    return grow(
        tmp_path / "pi",
        {
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
            "proc/cpuinfo": arm_cpus(*[("0xd0b", A76)] * 4) + "\nRevision\t: d04170\nModel\t: Raspberry Pi 5 Model B\n",
            "proc/meminfo": MEMORY,
            "proc/loadavg": "0.40 0.30 0.20 1/200 999\n",
            "proc/sys/kernel/hostname": "kitchen\n",
            "proc/sys/kernel/osrelease": "6.6.51+rpt-rpi-2712\n",
            "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
            "sys/class/thermal/thermal_zone0/temp": "81250\n",
            "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
            "sys/class/thermal/cooling_device0/cur_state": "3\n",
            "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50005\n",
            "sys/bus/pci/devices/0001:01:00.0/vendor": "0x1e60\n",
            "sys/bus/pci/devices/0001:01:00.0/device": "0x2864\n",
            "sys/bus/pci/devices/0001:01:00.0/class": "0x0b4000\n",
            "sys/class/drm/renderD128/dev": "226:128\n",
            "dev/hailo0": "",
            "dev/dri/renderD128": "",
        },
        {"sys/bus/pci/devices/0001:01:00.0": "hailo_pci", "sys/class/drm/renderD128/device": "v3d"},
    )


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """A Jetson Orin Nano developer kit."""
    return grow(
        tmp_path / "jetson",
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "proc/cpuinfo": arm_cpus(*[("0xd42", A76 + " i8mm")] * 6),
            "proc/meminfo": MEMORY,
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0\n",
            "dev/nvhost-gpu": "",
            "dev/nvmap": "",
        },
    )


@pytest.fixture
def intel_box(tmp_path: Path) -> Path:
    """A small x86 computer with an Intel NPU and GPU, and a sound chip of the same maker."""
    npu, gpu, sound = (f"sys/bus/pci/devices/0000:00:{slot}" for slot in ("0b.0", "02.0", "1f.3"))
    return grow(
        tmp_path / "intel",
        {
            "sys/class/dmi/id/sys_vendor": "ASUSTeK COMPUTER INC.\n",
            "sys/class/dmi/id/product_name": "NUC14RVH\n",
            "proc/cpuinfo": f"processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 5 125H\nflags\t\t: {X86_FLAGS}\n\n"
            f"processor\t: 1\nmodel name\t: Intel(R) Core(TM) Ultra 5 125H\nflags\t\t: {X86_FLAGS}\n",
            "proc/meminfo": MEMORY,
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
            f"{npu}/vendor": "0x8086\n", f"{npu}/device": "0x7d1d\n", f"{npu}/class": "0x120000\n",
            f"{npu}/accel/accel0/dev": "261:0\n", "dev/accel/accel0": "",
            f"{gpu}/vendor": "0x8086\n", f"{gpu}/device": "0x7d55\n", f"{gpu}/class": "0x030000\n",
            f"{gpu}/drm/renderD128/dev": "226:128\n", "dev/dri/renderD128": "",
            f"{sound}/vendor": "0x8086\n", f"{sound}/device": "0x7e28\n", f"{sound}/class": "0x040300\n",
        },
        {npu: "intel_vpu", gpu: "i915", sound: "sof-audio-pci-intel-mtl"},
    )  # fmt: skip


@pytest.fixture
def rock(tmp_path: Path) -> Path:
    """A Rock 5B (RK3588) with the maker's kernel."""
    return grow(
        tmp_path / "rock",
        {
            "proc/device-tree/model": "Radxa ROCK 5B\0",
            "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
            "proc/cpuinfo": arm_cpus(*[("0xd05", A55)] * 4, *[("0xd0b", A76 + " sve")] * 4),
            "proc/meminfo": MEMORY,
            "sys/class/drm/renderD129/dev": "226:129\n",
            "dev/dri/renderD128": "",
            "dev/dri/renderD129": "",
        },
        {"sys/class/drm/renderD129/device": "RKNPU"},
    )
