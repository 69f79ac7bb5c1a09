"""edgeward logs: what a service said."""

import subprocess
import sys

import click


@click.command()
@click.argument("name")
@click.argument("host", required=False)
@click.option("-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="The last N lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def command(name: str, host: str | None, lines: int, follow: bool) -> None:
    """What the service NAME of this machine or HOST said, from its journal or its container.

    \b
    edgeward logs digits
    edgeward logs digits pi@raspberrypi --follow
    """
    from edgeward.bundle.packers.systemd import unit_of
    from edgeward.cli.afar import there

    words = ["journalctl", "--unit", unit_of(name), "--lines", str(lines), "--no-pager", "--output", "short-iso"]
    more = ["--follow"] if follow else []
    if host is not None:
        unit = there.service(host, name)["unit"]
        if there.is_contained(unit):
            engine, _, container = unit.split()
            raise SystemExit(there.show(host, [engine, "logs", "--tail", str(lines), *more, container]))
        raise SystemExit(there.show(host, [*words, *more]))
    from edgeward.bundle.store import Store
    from edgeward.cli import services
    from edgeward.kit import systemctl

    systemctl.check()
    services.unit_named(Store(), name)
    sys.stdout.flush()
    raise SystemExit(subprocess.run([*words, *more], check=False).returncode)
