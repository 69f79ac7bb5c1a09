"""edgeward join: several variants of a bundle under one name."""

from pathlib import Path

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The folder to write.")
@click.option("--key", "keys", type=PATH, multiple=True, metavar="PUB", help="Trust this public key only.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundles: tuple[Path, ...],
    output: Path,
    keys: tuple[Path, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Put signed BUNDLES of one model and version under one index, for devices of several kinds.

    `show --for` says which one fits a device, `push` takes all of them to a registry, `pull --for` brings the one that
    fits, chosen before any of it is fetched.

    \b
    edgeward join pi/bundle x86/bundle -o all
    edgeward show all --for pi@raspberrypi
    """
    from edgeward.bundle import find_bundle, trusted_keys
    from edgeward.bundle.variants import join

    if len(bundles) < 2:
        raise click.UsageError("wanted two bundles or more")
    places = [find_bundle(one) for one in bundles]
    digest = join(places, output, trusted_keys(keys), overwrite=overwrite)
    if as_json:
        console.print_json({"folder": str(output), "digest": digest, "variants": len(places)})
    else:
        console.say(f"{output}: {len(places)} variants\ndigest  {digest}")
