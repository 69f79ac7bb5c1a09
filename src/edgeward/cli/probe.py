"""edgeward probe: what this machine or another is and can do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.records.target import Machine, Peaks

HERE = ("localhost", "127.0.0.1", "::1")


@click.command()
@click.argument("host", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: the Machine record.")
@click.option("--save", type=PATH, metavar="FILE", help="Write the profile of this machine (TOML).")
@click.option("--no-peaks", is_flag=True, help="Do not measure compute and memory speed (saves about 4 s).")
def command(host: str | None, as_json: bool, save: Path | None, no_peaks: bool) -> None:
    """What this machine or HOST is and can do: board, CPU, memory, accelerators, runtimes that really run, speed.

    \b
    edgeward probe
    edgeward probe --save target.toml
    edgeward probe pi@raspberrypi --save pi.toml

    HOST is looked at over your own ssh. With Python 3.11 it keeps the runtimes in ~/.cache/edgeward/runner; with
    Python 3.9 it is looked at without trying them.
    """
    from edgeward.kit import files
    from edgeward.measure import target_file

    if save is not None:
        _check_place(save)
    if not no_peaks and sys.stderr.isatty():
        console.note("measuring, about 5 s …")
    found, name = _here(with_peaks=not no_peaks) if _is_here(host) else _there(host or "", with_peaks=not no_peaks)
    if save is not None:
        files.write_atomic(save, target_file.to_toml(target_file.target_of(found, name)))
        console.note(f"wrote {save}")
    if as_json:
        console.print_json(found)
    else:
        _show(found)


def _here(*, with_peaks: bool) -> "tuple[Machine, str]":
    from edgeward.kit.clock import SystemClock
    from edgeward.measure import machine, naming

    return machine.read_machine(clock=SystemClock(), with_peaks=with_peaks), naming.target_name()


def _there(host: str, *, with_peaks: bool) -> "tuple[Machine, str]":
    from edgeward.kit.clock import SystemClock
    from edgeward.kit.errors import Unsupported
    from edgeward.measure.remote import RemotePlace

    try:
        with RemotePlace(host, told=console.note, brings_python=False) as place:
            return place.machine(with_peaks=with_peaks), place.facts.name
    except Unsupported as error:  # nothing can be run there, but it can be looked at
        reason = error.message.removeprefix(f"{host}: ")
    from edgeward.measure.afar import machine_afar

    found = machine_afar(host, reason, SystemClock())
    console.note(f"no runtime was tried: {reason}")
    return found


def _is_here(host: str | None) -> bool:
    import platform

    return host is None or host in (*HERE, platform.node())


def _check_place(save: Path) -> None:
    """Raises WrongInput now for what would fail after the measurement."""
    from edgeward.kit.errors import WrongInput

    if save.is_dir():
        raise WrongInput(f"{save}: is a folder, wanted the name of a file", hint=f"--save {save / 'target.toml'}")
    if not save.parent.is_dir():
        raise WrongInput(f"{save}: there is no folder {save.parent}", hint=f"mkdir -p {save.parent}")


def _show(found: "Machine") -> None:
    rows = [
        ("board", found.board),
        ("CPU", f"{found.cpu}, {found.cpu_count} CPUs, {found.arch}"),
        ("features", " ".join(found.cpu_features) or "none of those that matter"),
        ("memory", f"{console.size(found.memory_available_bytes)} free of {console.size(found.memory_bytes)}"),
        ("storage", f"{console.size(found.storage_free_bytes)} free"),
        ("system", f"{found.os}, Linux {found.kernel}, Python {found.python}"),
        ("inside", found.virtualization or "nothing: no virtual machine, no container"),
        ("governor", found.governor or "no frequency control visible"),
        ("temperature", "–" if found.temperature_c is None else f"{found.temperature_c:.0f} °C"),
    ]
    console.table(found.hostname, ("what", "found"), rows)
    runtimes = [
        (one.name, one.version or "–", "yes" if one.works else "NO", _with_providers(one.reason, one.providers))
        for one in found.runtimes
    ]
    console.table("Runtimes", ("name", "version", "runs", "why"), runtimes)
    _show_accelerators(found)
    _show_readings(found)
    if found.peaks is not None:
        _show_peaks(found.peaks)


def _with_providers(reason: str, providers: tuple[str, ...]) -> str:
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
    return f"{reason} (built with {names})" if names else reason


def _show_accelerators(found: "Machine") -> None:
    if not found.accelerators:
        console.say("Accelerators: none found on PCI, USB or the chip\n")
        return
    rows = [(one.name, one.driver or "–", "yes" if one.usable else "no", one.reason) for one in found.accelerators]
    console.table("Accelerators", ("what", "driver", "usable", "why"), rows)


_COUNTED = ("time idle", "idle entries", "time at frequency", "waited since boot", "counter range")
"""What stands in --json alone: one row for each CPU, or a number that says nothing by itself."""


def _show_readings(found: "Machine") -> None:
    shown = [one for one in found.readings if one.fault is None and one.quantity not in _COUNTED]
    if shown:
        rows = [(one.name, one.quantity, *_figure(one.value, one.unit)) for one in shown]
        console.table("Sensors", ("sensor", "what", "now", ""), rows, right=(2,))
    faults = [(one.name, one.quantity, one.fault or "") for one in found.readings if one.fault is not None]
    if faults:
        console.table("Sensors that are not readable", ("sensor", "what", "why"), faults)
    hidden = len(found.readings) - len(shown) - len(faults)
    if hidden:
        console.say(f"{hidden} counters more: edgeward probe --json\n")


def _figure(value: float | str | None, unit: str) -> tuple[str, str]:
    if unit == "bytes" and isinstance(value, float):
        return console.size(int(value)), ""
    return (value if isinstance(value, str) else f"{value:.6g}"), unit


def _show_peaks(peaks: "Peaks") -> None:
    rows = [
        ("float32 products", f"{peaks.fp32_gflops_one:.0f}", f"{peaks.fp32_gflops_all:.0f}", "GFLOP/s"),
        ("int8 products", f"{peaks.int8_gops_one:.0f}", f"{peaks.int8_gops_all:.0f}", "GOP/s"),
        ("memory copy", "", f"{peaks.memory_gb_per_s:.1f}", "GB/s"),
    ]
    columns = ("measured", "1 thread", f"{peaks.threads} threads", "")
    console.table("Speed of this machine", columns, rows, right=(1, 2))
    gain = peaks.int8_gops_one / peaks.fp32_gflops_one
    console.say(f"int8 products run {gain:.1f}× as fast as float32 on one thread: the most int8 can gain here.")
    for part in peaks.setting.split("; "):
        console.say(f"  {part}")
