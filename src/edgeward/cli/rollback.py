"""edgeward rollback: a service back on the bundle that it had before."""

from typing import Any

import click

from edgeward.cli import console


@click.command()
@click.argument("name")
@click.argument("host", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(name: str, host: str | None, as_json: bool) -> None:
    """Let the service NAME of this machine or HOST run the bundle before this one again.

    The service verifies it and runs its self-test as at each start; where it does not start, the bundle of now runs on
    (exit code 1). A second rollback goes forward again.

    \b
    sudo edgeward rollback digits
    edgeward rollback digits pi@raspberrypi
    """
    if host is not None:
        from edgeward.cli.afar import there

        _tell({"host": host, **there.rollback(host, name)}, as_json=as_json)
        return
    from edgeward.bundle.store import Store
    from edgeward.cli import deployment, services
    from edgeward.kit import systemctl

    systemctl.check()
    store = Store()
    unit = services.unit_named(store, name)
    deployment.check_root()
    with store.locked():
        digest = deployment.go_back(unit, store, name)
    _tell({"name": name, "digest": digest, "unit": unit}, as_json=as_json)


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(told)
    else:
        console.say(f"{told['name']} runs {told['digest']} again")
