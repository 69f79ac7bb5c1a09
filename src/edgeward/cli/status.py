"""edgeward status: the services of a machine, in one look."""

import click

from edgeward.cli import console


@click.command()
@click.argument("host", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(host: str | None, as_json: bool) -> None:
    """The services that edgeward runs on this machine or HOST: which bundle, since when, and what each says.

    Exit code 1 where one of them does not run.

    \b
    edgeward status
    edgeward status pi@raspberrypi
    """
    if host is not None:
        from edgeward.cli.afar import there

        told = there.services(host)
        if as_json:
            console.print_json({"host": host, "services": told})
        else:
            _show(told)
        raise SystemExit(0 if all(one["state"] == "active" for one in told) else 1)
    from msgspec import to_builtins

    from edgeward.bundle.store import Store
    from edgeward.cli import services
    from edgeward.kit import systemctl

    systemctl.check()
    found = services.found(Store())
    if as_json:
        console.print_json({"services": found})
    else:
        _show([to_builtins(one) for one in found])
    raise SystemExit(0 if all(one.state == "active" for one in found) else 1)


def _show(found: list[dict[str, str]]) -> None:
    if not found:
        console.say("no services; edgeward deploy BUNDLE starts one")
        return
    for one in found:
        again = f", started anew {one['restarts']} times" if one["restarts"] else ""
        console.say(f"{one['name']} {one['version']}: {one['state']} since {one['since']}{again}")
        console.say(f"  bundle  {one['digest'][:19]}…")
        console.say(f"  unit    {one['unit']}" + (f" ({one['says']})" if one["says"] else ""))
