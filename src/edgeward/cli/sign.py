"""edgeward sign: says with a key that a bundle is yours."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import SigningKey


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--key", metavar="FILE|URI",
    help="Sign with this private key (PEM) instead of your own, or with the one that a token or key service holds.",
)  # fmt: skip
@click.option("--public", type=PATH, metavar="FILE", help="The public half of such a held key; a token writes it.")
@click.option("--new-key", type=PATH, metavar="FILE", help="Make a key pair, FILE and its .pub, and sign with it.")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="HOST/NAME",
    help="Also sign it as this repository has it, for Podman, Skopeo and CRI-O; may be repeated.",
)
@click.option("--files", "plain", type=PATH, metavar="DIR", help="Write its plain files there, with a model.sig (OMS).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path,
    key: str | None,
    public: Path | None,
    new_key: Path | None,
    repositories: tuple[str, ...],
    plain: Path | None,
    as_json: bool,
) -> None:
    """Sign a bundle with your key, its bill of materials and its provenance; your first signature makes that key.

    Several signatures stand side by side; signing twice with one key changes nothing. An encrypted key is
    opened with EDGEWARD_KEY_PASSWORD.

    \b
    edgeward sign out/bundle
    edgeward sign out/bundle --new-key release.key
    edgeward sign out/bundle --repository registry.example/vision/digits
    edgeward sign out/bundle --key "hsm:2?label=release" --public release.pub
    """
    from edgeward.bundle import attest, find_bundle, peek, sign

    if key is not None and new_key is not None:
        raise click.UsageError("--key and --new-key exclude each other")
    named = [_repository(one) for one in repositories]
    folder = find_bundle(bundle)
    claimed = peek(folder)
    signing, public, created = _signing_key(key, public, new_key)
    if created:
        console.note(f"made a new key pair: {signing.path}, to keep secret, and {public}, for those who verify")
    sign(folder, signing)
    stated = attest(folder, signing)
    for repository in named:
        from edgeward.bundle.cosign import sign_for

        sign_for(folder, repository, signing)
    if plain is not None:
        from edgeward.bundle.model_signing import write_signed

        write_signed(folder, plain, signing)
    if as_json:
        facts = {"bundle": str(folder), "digest": claimed.digest, "key": signing.fingerprint}
        console.print_json({**facts, "key_file": str(signing.path), "key_created": created, "statements": stated})
        return
    console.say(f"signed {folder}: {claimed.manifest.name} {claimed.manifest.version}")
    console.say(f"digest  {claimed.digest}")
    console.say(f"key     {signing.fingerprint}")
    console.say(f"        {signing.path}")
    console.say(f"next: edgeward verify {folder}" + (f" --key {public}" if public and (key or new_key) else ""))


def _repository(text: str) -> str:
    """HOST/NAME, without a tag: what is signed is a digest."""
    from edgeward.bundle.registry import Reference, parse
    from edgeward.kit.errors import WrongInput

    found = parse(text)
    if not isinstance(found, Reference) or found.tag or found.digest:
        raise WrongInput(f"--repository {text}: wanted HOST/NAME, such as registry.example/vision/digits")
    return str(found)


def _signing_key(key: str | None, public: Path | None, new_key: Path | None) -> "tuple[SigningKey, Path | None, bool]":
    """The key to sign with, where its public half is, and whether it was made just now."""
    from edgeward.bundle import create_key, load_key, load_or_create_key, public_path_of
    from edgeward.bundle.held_key import is_uri, open_key
    from edgeward.kit.errors import WrongInput

    if key is not None and is_uri(key):
        return open_key(key, public, _secret), public, False
    if public is not None:
        raise click.UsageError("--public goes with a --key that a token or key service holds")
    if key is not None:
        return load_key(Path(key)), public_path_of(Path(key)), False
    if new_key is None:
        own, is_new = load_or_create_key()
        return own, public_path_of(own.path), is_new
    try:
        return create_key(new_key), public_path_of(new_key), True
    except FileExistsError:
        raise WrongInput(f"{new_key}: stands there already", hint=f"--key {new_key}") from None


def _secret(what: str) -> str:
    """A token's PIN, from EDGEWARD_KEY_PASSWORD or the person."""
    import os
    import sys

    from edgeward.kit.errors import WrongInput

    if found := os.environ.get("EDGEWARD_KEY_PASSWORD"):
        return found
    if not sys.stdin.isatty():
        raise WrongInput(f"the token wants its {what}", hint="EDGEWARD_KEY_PASSWORD=… edgeward sign …")
    answer: str = click.prompt(what.upper(), hide_input=True, err=True)
    return answer
