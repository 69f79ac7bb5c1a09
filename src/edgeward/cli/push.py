"""edgeward push: a bundle to a registry."""

from pathlib import Path

import click

from edgeward.cli import console, reaching
from edgeward.cli.paths import PATH


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("reference")
@click.option("--mount-from", metavar="NAME", help="Take blobs over from this repository of the same registry.")
@reaching.options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path,
    reference: str,
    mount_from: str | None,
    plain_http: bool,
    ca: Path | None,
    mirrors: tuple[str, ...],
    as_json: bool,
) -> None:
    """Take a bundle to a registry, with its signatures; only what is missing there is sent.

    REFERENCE is HOST/NAME:TAG. Who you are is what `podman login` or `docker login` left, or EDGEWARD_REGISTRY_USER and
    EDGEWARD_REGISTRY_PASSWORD.

    \b
    edgeward push out/bundle registry.example/vision/digits:1.2.0
    """
    from edgeward.bundle import find_bundle
    from edgeward.bundle.registry import Place, parse, push
    from edgeward.kit.errors import WrongInput

    place = parse(reference)
    if isinstance(place, Place):
        raise WrongInput(f"{reference} is a folder; wanted HOST/NAME:TAG", hint=f"edgeward copy {bundle} {reference}")
    with reaching.telling("pushing") as tell:
        done = push(
            find_bundle(bundle), place, access=reaching.access(plain_http, ca, mirrors), mount_from=mount_from,
            tell=tell,
        )  # fmt: skip
    if as_json:
        console.print_json(
            {"reference": str(done.reference), "digest": done.reference.digest, "sent_bytes": done.moved_bytes}
        )
        return
    console.say(f"pushed {done.reference}")
    console.say(f"sent   {console.size(done.moved_bytes)}")
