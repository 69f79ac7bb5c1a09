"""The CPUs' clocks: governor and limits of each policy, time spent at each frequency and in each idle state."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, as_number, existing, measured, said, text_or_fault
from edgeward.measure.probes.base import unreadable as told

_CPUS = "sys/devices/system/cpu"
_FREQUENCIES = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
_SWITCHES = ("cpufreq/boost", "intel_pstate/no_turbo", "intel_pstate/status")


class Cpufreq:
    def read(self, root: Path) -> Iterator[Reading]:
        for policy in sysfs.entries(root / _CPUS / "cpufreq", "policy*"):
            yield said(policy / "scaling_governor", What(policy.name, "governor"))
            for name in _FREQUENCIES:
                if (policy / name).exists():
                    quantity = f"{name.removesuffix('_freq').replace('_', ' ')} frequency"
                    yield measured(policy / name, What(policy.name, quantity, "MHz"), scale=1e-3)
            yield from _at_each_frequency(policy)
        for name in _SWITCHES:
            if (root / _CPUS / name).exists():
                yield said(root / _CPUS / name, What(name.replace("/", " "), "setting"))
        yield from _idle(root)


def _at_each_frequency(policy: Path) -> Iterator[Reading]:
    """The kernel counts in hundredths of a second."""
    file = policy / "stats/time_in_state"
    if not file.exists():
        return
    text, fault = text_or_fault(file)
    if fault:
        yield told(file, What(policy.name, "time at frequency", "s"), fault)
    for line in text.splitlines():
        frequency, _, ticks = line.partition(" ")
        if frequency.isdigit():
            what = What(f"{policy.name} {int(frequency) / 1000:g} MHz", "time at frequency", "s")
            yield as_number(ticks.strip(), file, what, scale=0.01)
        else:
            yield told(file, What(policy.name, "time at frequency", "s"), f"not readable: {line[:40]!r}")


def _idle(root: Path) -> Iterator[Reading]:
    for folder in sysfs.entries(root / _CPUS, "cpu[0-9]*/cpuidle/state*"):
        name = f"{folder.parent.parent.name} {sysfs.text(folder / 'name') or folder.name}"
        for file in existing(folder, "time"):
            yield measured(file, What(name, "time idle", "s"), scale=1e-6)
        for file in existing(folder, "usage"):
            yield measured(file, What(name, "idle entries", "times"))


plugin: Probe = Cpufreq()
