"""edgeward export: a bundle as what another platform runs: an image, a package, or the files that start it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle.packers import Machine, PackedFile, Whole

_ARCHES = ("amd64", "arm64")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,254}")


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--as", "form", required=True, metavar="FORM", help="oci-image, quadlet, compose, kubernetes, deb …")
@click.option("-o", "--output", type=PATH, metavar="DIR", help="The folder to write; by default NAME-FORM.")
@click.option(
    "--base",
    default="debian",
    show_default=True,
    help="What an image stands on: debian, an image HOST/NAME:TAG, or oci:FOLDER.",
)
@click.option("--arch", "arches", multiple=True, type=click.Choice(_ARCHES), help="For this processor; default: both.")
@click.option("--image", default="", metavar="NAME", help="The image's name, where it is started by name.")
@click.option("--model-image", default="", metavar="NAME", help="The model alone as an image, mounted by a cluster.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The device's address to serve on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads of the model; default: as it was measured."
)
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key only.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="Also what this extra needs, such as grpc.")
@click.option("--wheels", "only_in", type=PATH, metavar="DIR", help="Take wheels from this folder, and no network.")
@click.option("--fresh", is_flag=True, help="Ask for newer wheels and packages than those that are kept here.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path,
    form: str,
    output: Path | None,
    base: str,
    arches: tuple[str, ...],
    image: str,
    model_image: str,
    host: str,
    port: int,
    threads: int | None,
    keys: tuple[Path, ...],
    extras: tuple[str, ...],
    only_in: Path | None,
    fresh: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a bundle as what another platform runs: a container image, a package, or the files that start them.

    The bundle is verified first. An image is written without a daemon, for both processors, and the same input gives
    the same digest.

    \b
    edgeward export out/bundle --as oci-image -o image
    edgeward export out/bundle --as quadlet --image registry.example/digits:1
    edgeward export out/bundle --as deb --arch arm64
    """
    from edgeward.bundle import find_bundle, packers, trusted_keys
    from edgeward.cli import exporting
    from edgeward.kit import files

    for option, name in (("--image", image), ("--model-image", model_image)):
        if name and not _REFERENCE.fullmatch(name):
            raise click.UsageError(f"{option} {name!r}: is no name of an image, such as registry.example/digits:1")
    packer = packers.load(form)
    verified, contents = exporting.copied(find_bundle(bundle), trusted_keys(keys))
    target = output or Path(f"{verified.manifest.name}-{form}")
    files.check_output_folder(target, overwrite=overwrite)
    service = packers.Service(
        f"{exporting.HOME}/bin/python", exporting.PLACE.format(verified.manifest.name), host, port, threads, image=image
    )
    service = service._replace(model_image=model_image, contents=contents)
    if isinstance(packer, packers.Whole):
        machines = _machines(packer, verified.manifest.runtime, base, arches or _ARCHES, extras, only_in, fresh)
        within = packers.load(packer.within).pack(verified, service) if packer.within else ()
        service = service._replace(machines=machines, within=within)
    packed = packer.pack(verified, service)
    exporting.write(packed, target, overwrite=overwrite)
    _tell(packed, target, form, verified.manifest.name, as_json=as_json)


def _machines(
    packer: "Whole", runtime: str, base: str, arches: Sequence[str], extras: Sequence[str], only_in: Path | None,
    fresh: bool,
) -> "tuple[Machine, ...]":  # fmt: skip
    from edgeward.cli import exporting

    with console.progress() as shown:
        made = []
        for number, arch in enumerate(dict.fromkeys(arches)):
            tell = lambda text, share, at=number: shown.stage(text, (at + share) / len(arches))  # noqa: E731
            made.append(
                exporting.machine(
                    arch, runtime, base, extras=extras, only_in=only_in, fresh=fresh,
                    stands_on_base=packer.stands_on_base, tell=tell,
                )
            )  # fmt: skip
        shown.stage("packing", 1.0)
    return tuple(made)


def _tell(packed: "Sequence[PackedFile]", target: Path, form: str, name: str, *, as_json: bool) -> None:
    from edgeward.cli import exporting

    paths = [one.path for one in packed if "blobs/" not in one.path]
    digest = exporting.image_digest(target)
    if as_json:
        console.print_json(
            {"form": form, "folder": str(target), "files": paths, **({"digest": digest} if digest else {})}
        )
        return
    console.say(f"wrote {target}: {', '.join(paths)}")
    if digest:
        console.say(f"image  {digest}")
    for line in exporting.sizes(target) if form == "oci-image" else ():
        console.say(line)
    for line in exporting.next_steps(form, target, name):
        console.say(f"next: {line}")
