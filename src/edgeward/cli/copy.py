"""edgeward copy: a bundle from one place to another."""

import tempfile
from pathlib import Path

import click

from edgeward.cli import console, reaching
from edgeward.cli.paths import PATH


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--key", "keys", type=PATH, multiple=True, metavar="PUB", help="Trust this public key only.")
@reaching.options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    source: str,
    destination: str,
    keys: tuple[Path, ...],
    plain_http: bool,
    ca: Path | None,
    mirrors: tuple[str, ...],
    as_json: bool,
) -> None:
    """Take a bundle, with its signatures, from one registry, folder or stick to another; it is verified between.

    \b
    edgeward copy registry.example/digits:1 other.example/digits:1
    edgeward copy registry.example/digits:1 /media/stick/digits
    """
    from edgeward.bundle import trusted_keys, verify
    from edgeward.bundle.registry import Place, fetch, parse, push
    from edgeward.cli import pulling

    begin, end = parse(source), parse(destination)
    access, trust = reaching.access(plain_http, ca, mirrors), trusted_keys(keys)
    with reaching.telling("copying") as tell:
        if isinstance(end, Place):
            with pulling.folder(end.folder, begin, overwrite=False) as work:
                done = fetch(begin, work, access=access, tell=tell)
                verify(work, trust)
            where, digest = str(end.folder), done.digest
        else:
            with tempfile.TemporaryDirectory() as between:
                fetch(begin, Path(between), access=access, tell=tell)
                verify(Path(between), trust)
                pushed = push(Path(between), end, access=access)
            where, digest = str(pushed.reference), pushed.reference.digest or ""
    if as_json:
        console.print_json({"destination": where, "digest": digest})
    else:
        console.say(f"copied to {where}")
