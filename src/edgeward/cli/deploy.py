"""edgeward deploy: a bundle as a service of this machine, or of another."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.bundle.packers import PackedFile, Service


@click.command()
@click.argument("bundle", required=False, type=PATH)
@click.argument("machine", required=False, metavar="[HOST]")
@click.option("--pipeline", metavar="NAME", help="Install this pipeline of edgeward.toml instead of a server.")
@click.option(
    "--as",
    "form",
    default="systemd",
    show_default=True,
    metavar="FORM",
    help="systemd; on a HOST also podman, docker, k3s or microk8s.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on; 0.0.0.0 is every one.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads of the model; default: as it was measured."
)
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key only.")
@click.option("--dry-run", is_flag=True, help="Print the files, and change nothing.")
@click.option("--remove", "removed", metavar="NAME", help="Stop this service and take it away; what it stored stays.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path | None,
    machine: str | None,
    pipeline: str | None,
    form: str,
    host: str,
    port: int,
    threads: int | None,
    keys: tuple[Path, ...],
    dry_run: bool,
    removed: str | None,
    as_json: bool,
) -> None:
    """Install a bundle as a service of this machine or HOST: hardened, watched, started on boot and after failures.

    The bundle is verified and copied to /var/lib/edgeward. A repeat changes nothing; a newer bundle of the same name
    takes the older one's place. Where the service does not start, what ran before runs again (exit code 1). HOST is
    reached over your own ssh; what it lacks is sent to it, edgeward too.

    \b
    sudo edgeward deploy out/bundle
    edgeward deploy out/bundle --dry-run
    edgeward deploy out/bundle pi@raspberrypi
    sudo edgeward deploy --pipeline door
    sudo edgeward deploy --remove digits
    """
    from edgeward.bundle import packers, trusted_keys, verify
    from edgeward.bundle.store import Store
    from edgeward.cli.fitting import fitting_bundle
    from edgeward.kit import systemctl

    if removed is not None:
        _remove(removed, as_json)
        return
    if pipeline is not None:
        if (host, port) != ("127.0.0.1", 8000):
            raise click.UsageError("--host and --port: a pipeline serves on no port.")
        _run(pipeline, bundle, form, threads, keys, dry_run=dry_run, as_json=as_json)
        return
    if bundle is None:
        raise click.UsageError("Missing argument 'BUNDLE'.")
    place = fitting_bundle(bundle, machine)
    if form != "systemd" and not dry_run and _is_contained(form):
        _as_container(machine, place, keys, form, host, port, threads, as_json=as_json)
        return
    packer = packers.load(form)
    verified = verify(place, trusted_keys(keys))
    if machine is not None and not dry_run:
        _ship(machine, place, verified, form, host, port, threads, as_json=as_json)
        return
    link = str(Store().link_of(verified.manifest.name))
    service = packers.Service(sys.executable, link, host, port, threads, systemctl.version() or 252)
    packed = packer.pack(verified, service)
    if dry_run:
        _show(packed, as_json)
        return
    _install(place, keys, verified, service, packed, as_json=as_json)


def _ship(
    machine: str, place: Path, verified: "VerifiedBundle", form: str, host: str, port: int, threads: int | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    from edgeward.cli.afar import ship

    options = ["--host", host, "--port", str(port), *(["--threads", str(threads)] if threads else [])]
    with console.progress() as shown, console.stoppable(shown) as progress:
        told = ship.deploy(machine, ship.Order(place, verified, form, tuple(options)), progress)
    _told(machine, told, verified.manifest.version, as_json=as_json)


def _is_contained(form: str) -> bool:
    """Whether it is made here and run on a HOST."""
    from edgeward.cli.afar.container import CLUSTERS, ENGINES

    return form in (*ENGINES, *CLUSTERS)


def _as_container(
    machine: str | None, place: Path, keys: Sequence[Path], form: str, host: str, port: int, threads: int | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    from edgeward.bundle import trusted_keys
    from edgeward.cli.afar import container
    from edgeward.kit.errors import Unsupported

    if machine is None:
        raise Unsupported(
            f"--as {form} is for a device over ssh", hint=f"edgeward deploy {place} root@localhost --as {form}"
        )
    with console.progress() as shown, console.stoppable(shown) as progress:
        told = container.deploy(machine, place, trusted_keys(keys), form, host, port, threads, progress)
    _told(machine, told, told["version"], as_json=as_json)


def _told(machine: str, told: dict[str, Any], version: str, *, as_json: bool) -> None:
    from edgeward.cli import first_answers

    if as_json:
        console.print_json(told)
        return
    console.say(f"{told['name']} {version} {'runs' if told['changed'] else 'runs already, unchanged'} on {machine}")
    console.say(f"unit    {told['unit']}")
    console.say(f"url     {told['url']} (from there)")
    console.say(f"answers {first_answers.FirstAnswers(**told['first_answers']).words()}")
    console.say(f"sent    {told['sent_bytes'] / 1e6:.1f} MB")


def _run(
    pipeline: str, bundle: Path | None, form: str, threads: int | None, keys: tuple[Path, ...], *, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from edgeward.cli import deploy_pipeline

    if bundle is not None:
        raise click.UsageError("--pipeline names its own bundle: BUNDLE is said without it.")
    planned = deploy_pipeline.plan(pipeline, form, threads, keys)
    if dry_run:
        _show(planned.packed, as_json)
    else:
        deploy_pipeline.install(planned, as_json=as_json)


def _install(
    place: Path,
    keys: Sequence[Path],
    verified: "VerifiedBundle",
    service: "Service",
    packed: "Sequence[PackedFile]",
    *,
    as_json: bool,
) -> None:
    from edgeward.bundle import trusted_keys
    from edgeward.bundle.needs import needs_of
    from edgeward.bundle.packers.systemd import unit_of
    from edgeward.bundle.store import Store
    from edgeward.cli import deployment, first_answers
    from edgeward.kit import systemctl

    systemctl.check()
    deployment.check_root()
    deployment.check_python(service.python)
    deployment.check_kind(verified.manifest.name, runs=False)
    store, name, unit = Store(), verified.manifest.name, unit_of(verified.manifest.name)
    limit_s = needs_of(verified.manifest, service.threads).start_s + 120
    with store.locked():
        digest = store.put(place, trusted_keys(keys))
        changed, first = deployment.install(
            unit, packed, store, name, digest, limit_s=limit_s,
            try_out=lambda: first_answers.ask(verified, service.host, service.port),
        )  # fmt: skip
    host = f"[{service.host}]" if ":" in service.host else service.host
    url = f"http://{host}:{service.port}/v2/models/{name}"
    if as_json:
        told = {"name": name, "version": verified.manifest.version, "digest": digest, "unit": unit, "url": url}
        files = [one.path for one in packed]
        console.print_json({**told, "changed": changed, "first_answers": first, "files": files})
        return
    console.say(f"{name} {verified.manifest.version} {'runs' if changed else 'runs already, unchanged'}: {url}")
    console.say(f"unit    {unit} ({systemctl.show(unit, 'StatusText')})")
    console.say(f"bundle  {store.link_of(name)}")
    console.say(f"answers {first.words()}")


def _remove(name: str, as_json: bool) -> None:
    from edgeward.bundle.packers.systemd import KEYS, SETTINGS, UNITS, unit_of
    from edgeward.bundle.store import Store
    from edgeward.cli import deployment
    from edgeward.kit import systemctl
    from edgeward.kit.errors import WrongInput

    systemctl.check()
    store, unit = Store(), unit_of(name)
    paths = []
    if re.fullmatch("[a-z0-9.-]+", name):
        keys = Path(KEYS, name)
        paths = [Path(UNITS, unit), keys / SETTINGS, *sorted(keys.glob("signer-*.pub"))]
    if not any(path.exists() for path in paths) and name not in store.services():
        there = ", ".join(store.services()) or "no service"
        raise WrongInput(f"there is no service {name!r} of edgeward here; there is {there}")
    deployment.check_root()
    removed = [str(path) for path in paths if path.exists()]
    with store.locked():
        deployment.remove(unit, paths, store, name)
    if as_json:
        console.print_json({"name": name, "unit": unit, "removed": removed})
    else:
        console.say(f"{name} is stopped and removed; what it stored is still in /var/lib/private/edgeward-{name}")


def _show(packed: "Sequence[PackedFile]", as_json: bool) -> None:
    if as_json:
        console.print_json(
            {"files": [{"path": one.path, "mode": one.mode, "text": one.data.decode()} for one in packed]}
        )
        return
    for one in packed:
        console.say(f"# {one.path}")
        console.say(one.data.decode())
