"""edgeward join: several variants of a bundle under one name."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle.resolve import Judged


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, metavar="DIR", help="The folder to write.")
@click.option("--for", "machine", metavar="HOST", help="Say which variant fits HOST, or local, and why not the others.")
@click.option("--key", "keys", type=PATH, multiple=True, metavar="PUB", help="Trust this public key only.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundles: tuple[Path, ...],
    output: Path | None,
    machine: str | None,
    keys: tuple[Path, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Put signed BUNDLES of one model and version under one index, for devices of several kinds; or, with --for, say
    which of those in one such folder fits a device.

    `push` takes all of them to a registry; `pull --for` brings the one that fits, chosen before any of it is fetched.

    \b
    edgeward join pi/bundle x86/bundle -o all
    edgeward join all --for pi@raspberrypi
    """
    from edgeward.bundle import find_bundle, trusted_keys
    from edgeward.bundle.resolve import judge
    from edgeward.bundle.variants import join
    from edgeward.cli.fitting import device_of

    if machine is None:
        if output is None or len(bundles) < 2:
            raise click.UsageError("two bundles or more, and -o DIR; or one joined folder, and --for HOST")
        places = [find_bundle(one) for one in bundles]
        digest = join(places, output, trusted_keys(keys), overwrite=overwrite)
        if as_json:
            console.print_json({"folder": str(output), "digest": digest, "variants": len(places)})
        else:
            console.say(f"{output}: {len(places)} variants\ndigest  {digest}")
        return
    if len(bundles) != 1:
        raise click.UsageError("--for looks at one joined folder")
    judged = judge(_index_of(bundles[0]), device_of(machine))
    if as_json:
        console.print_json({"device": machine, "variants": [one._asdict() for one in judged]})
    else:
        _show(machine, judged)
    raise SystemExit(0 if judged and judged[0].refused is None else 4)


def _index_of(folder: Path) -> bytes:
    from edgeward.bundle import layout as oci
    from edgeward.kit.errors import WrongInput

    layout = oci.Layout(folder)
    entry = next((one for one in layout.index().manifests if one.media_type == oci.INDEX_TYPE), None)
    if entry is None:
        raise WrongInput(f"{folder}: holds one bundle and no variants", hint=f"edgeward join A B -o {folder}")
    return layout.read(entry, "the index of variants", limit_bytes=oci.INDEX_LIMIT_BYTES)


def _show(machine: str, judged: "tuple[Judged, ...]") -> None:
    rows = [
        (
            one.runtime, "no" if one.refused else "yes", one.refused or one.why,
            "–" if one.size_bytes is None else console.size(one.size_bytes), f"{one.digest[:19]}…",
        )
        for one in judged
    ]  # fmt: skip
    console.table(f"For {machine}", ("runtime", "fits", "why", "model", "digest"), rows)
