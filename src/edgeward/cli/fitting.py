"""Of several variants the one that fits a device: what a device has, and the variant as a bundle of its own."""

from pathlib import Path

from edgeward.bundle import find_bundle
from edgeward.bundle.resolve import Device, judge
from edgeward.bundle.variants import index_in
from edgeward.cli import console
from edgeward.cli.targets import HERE

_CACHE = ".cache/edgeward/variants"


def device_of(host: str) -> Device:
    """Of this machine ("local"), or another over SSH; what runs there is tried, not believed."""
    if host in HERE:
        from edgeward.measure.machine import read_machine
        from edgeward.measure.naming import target_name

        found, name = read_machine(with_peaks=False), target_name()
    else:
        from edgeward.measure.remote import RemotePlace

        with RemotePlace(host, told=console.note) as place:
            found, name = place.machine(with_peaks=False), place.facts.name
    runtimes = {one.name: one.version for one in found.runtimes if one.works and one.version is not None}
    return Device(name, runtimes, found.memory_bytes)


def bare_device(host: str) -> Device:
    """Of another machine over SSH that has nothing of ours yet: runtimes for its CPU come along with the bundle."""
    from edgeward.bundle.closure import CPU_RUNTIMES
    from edgeward.kit.clock import SystemClock
    from edgeward.measure.afar import machine_afar

    found, name = machine_afar(host, "they come along", SystemClock())
    return Device(name, {}, found.memory_bytes, CPU_RUNTIMES)


def fitting_bundle(path: Path, machine: str | None = None) -> Path:
    """The bundle's folder; where `path` holds variants, that of the one which fits this machine, or the bare `machine`,
    taken out anew.

    Raises Unsupported with every reason where none fits. What is in it is for `verify` to judge.
    """
    folder = find_bundle(path)
    index = index_in(folder)
    if index is None:
        return folder
    from edgeward.bundle.registry import Place, fetch
    from edgeward.bundle.resolve import choose
    from edgeward.kit import files

    device = device_of("local") if machine is None else bare_device(machine)
    digest = choose(index, device)
    best = judge(index, device)[0]
    console.note(f"{folder}: takes the variant for {best.runtime} ({digest[:19]}…), {best.why}")
    place = Path.home() / _CACHE / digest.removeprefix("sha256:")
    with files.new_folder(place, overwrite=True) as work:  # its signatures may be others by now
        fetch(Place(folder), work, choose=lambda _: digest)
    return place
