"""What a device has that variants are chosen by."""

from edgeward.bundle.resolve import Device
from edgeward.cli import console
from edgeward.cli.targets import HERE


def device_of(host: str) -> Device:
    """Of this machine ("local"), or another over SSH; what runs there is tried, not believed."""
    if host in HERE:
        from edgeward.measure.machine import read_machine, target_name

        found, name = read_machine(with_peaks=False), target_name()
    else:
        from edgeward.measure.remote import RemotePlace

        with RemotePlace(host, told=console.note) as place:
            found, name = place.machine(with_peaks=False), place.facts.name
    runtimes = {one.name: one.version for one in found.runtimes if one.works and one.version is not None}
    return Device(name, runtimes, found.memory_bytes)
