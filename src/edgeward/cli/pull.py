"""edgeward pull: a bundle from a registry, a folder or a stick."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console, reaching
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle.registry import Place, Reference


@click.command()
@click.argument("reference")
@click.option("-o", "--output", type=PATH, metavar="DIR", help="The folder to write; by default the bundle's name.")
@click.option("--for", "machine", metavar="HOST", help="Of several variants the one that fits HOST, or local.")
@click.option("--key", "keys", type=PATH, multiple=True, metavar="PUB", help="Trust this public key only.")
@click.option(
    "--limit-rate", callback=reaching.bytes_per_s, metavar="RATE", help="At most so many bytes a second: 500k, 2M."
)
@reaching.options
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    reference: str,
    output: Path | None,
    machine: str | None,
    keys: tuple[Path, ...],
    limit_rate: float | None,
    plain_http: bool,
    ca: Path | None,
    mirrors: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Bring a bundle from a registry, a folder or a stick, and verify it: every byte, and who signed it.

    REFERENCE is HOST/NAME:TAG, HOST/NAME@sha256:…, oci:FOLDER:TAG or a folder. A pull that was cut goes on where it
    was; what is refused is not left behind.

    \b
    edgeward pull registry.example/vision/digits:1.2.0
    edgeward pull registry.example/vision/digits:1.2.0 --for local
    edgeward pull /media/stick/bundles -o digits --limit-rate 500k
    """
    from edgeward.bundle import trusted_keys, verify
    from edgeward.bundle.registry import fetch, parse
    from edgeward.cli import pulling
    from edgeward.kit import files

    source = parse(reference)
    target = output or Path(_name(source))
    files.check_output_folder(target, overwrite=overwrite)
    trust, choose = trusted_keys(keys), None
    if machine is not None:
        from functools import partial

        from edgeward.bundle.resolve import choose as fitting
        from edgeward.cli.fitting import device_of

        choose = partial(fitting, device=device_of(machine))
    with pulling.folder(target, source, overwrite=overwrite) as work, reaching.telling("pulling") as tell:
        done = fetch(
            source, work, access=reaching.access(plain_http, ca, mirrors), choose=choose, tell=tell,
            limit_bytes_per_s=limit_rate,
        )  # fmt: skip
        verified = verify(work, trust)
    if as_json:
        keys_told = [signer.fingerprint for signer in verified.signers]
        console.print_json(
            {"folder": str(target), "digest": done.digest, "moved_bytes": done.moved_bytes, "signers": keys_told}
        )
        return
    console.say(f"{target}: {verified.manifest.name} {verified.manifest.version} is whole and signed")
    console.say(f"digest  {done.digest}")
    console.say(f"came    {console.size(done.moved_bytes)}")


def _name(source: "Reference | Place") -> str:
    from edgeward.bundle.registry import Reference

    return source.name.rpartition("/")[2] if isinstance(source, Reference) else source.folder.resolve().name
