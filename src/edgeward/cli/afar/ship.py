"""A bundle to a device: what is missing there is sent, then edgeward there installs it as it would on its own."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeward.bundle import closure
from edgeward.cli.afar.device import Device, Done, Facts
from edgeward.kit import debian, errors
from edgeward.kit.codec import digest_of_file
from edgeward.kit.errors import EdgewardError, Failed, Unsupported
from edgeward.kit.wheels import Abi

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.cli.console import Progress

_OLDEST_PYTHON = (3, 11)
_COMMANDS = {"edgeward": "edgeward", "edgeward-agent": "edgeward.agent.main"}
_KINDS: dict[int, type[EdgewardError]] = {
    kind.exit_code: kind
    for kind in (
        errors.Failed, errors.WrongInput, errors.GateMissed, errors.Unsupported, errors.Unavailable, errors.Refused
    )
}  # fmt: skip


class Order(NamedTuple):
    """What shall be delivered: the bundle's folder, and the options of `edgeward deploy` there."""

    folder: Path
    verified: "VerifiedBundle"
    form: str
    options: tuple[str, ...]


def deploy(host: str, order: Order, progress: "Progress", *, ssh_options: Sequence[str] = ()) -> dict[str, Any]:
    """What `edgeward deploy --json` said on the device, with "host" and the bytes that were sent.

    Raises what it raised there, with the host's name; Unavailable where the connection is lost: a repeat goes on.
    """
    progress.stage(f"connecting to {host}", 0.01)
    with Device(host, options=ssh_options) as device, tempfile.TemporaryDirectory() as keys:
        check(host, device.facts, order.form)
        progress.stage("fetching what the device needs", 0.03)
        own = _brought(host, device.facts)
        abi = device.facts.abi if own is None else own.abi
        archives, python = _archives(abi, order.verified.manifest.runtime), None
        packages = list(archives)
        if own is not None:
            digest = own.archive.digest.removeprefix("sha256:")
            archives[digest] = own.archive.path
            site = closure.site_packages(abi).removeprefix(f"{closure.HOME[1:]}/")
            python = {"archive": digest, "program": own.program, "site": site}
        name, sent = _name(archives), 0
        if name not in device.facts.releases:
            sent = device.send("edgeward", archives, lambda text, share: progress.stage(text, 0.1 + 0.5 * share))
            progress.stage("installing edgeward there", 0.6)
        interpreter = device.release(name, packages, _COMMANDS, python)
        device.forget(list(archives))
        files = _files(order, Path(keys))
        paths = dict(files.values())
        sent += device.send("the bundle", paths, lambda text, share: progress.stage(text, 0.7 + 0.15 * share))
        laid = f"deploy-{order.verified.bundle.digest[7:19]}"
        there = device.lay(laid, {name: digest for name, (digest, _) in files.items()})
        progress.stage("starting it there", 0.85)
        trusted = [word for name in files if name.startswith("keys/") for word in ("--key", f"{there}/{name}")]
        words = ["deploy", f"{there}/bundle", *trusted, "--as", order.form, *order.options, "--json"]
        told = answer_of(host, device.run(interpreter, "-m", "edgeward", *words))
        device.forget([laid, *paths])
        device.prune()
    return {"host": host, **told, "sent_bytes": sent}


def check(host: str, facts: Facts, form: str) -> None:
    """Raises Unsupported where the device cannot run edgeward in this form."""
    if form == "systemd" and not facts.is_systemd:
        raise Unsupported(f"{host}: was not started by systemd", hint="deploy --as podman or --as docker")


def _brought(host: str, facts: Facts) -> debian.Brought | None:
    """The Python that is sent along, where the device's own runs nothing of ours."""
    if facts.python >= _OLDEST_PYTHON and facts.libc[0] == "glibc":
        return None
    try:
        return debian.brought(facts.arch)
    except EdgewardError as error:
        version = ".".join(map(str, facts.python))
        raise type(error)(
            f"{host}: its python3 is {version} with {facts.libc[0] or 'another C library'}, wanted 3.11 or newer with "
            f"glibc, and none can be sent along: {error.message}",
            hint=error.hint or "install a newer Python there, or deploy --as podman: an image brings its own",
        ) from None


def answer_of(host: str, done: Done) -> dict[str, Any]:
    """The document that a command there printed. Raises what it raised, with the host's name."""
    if done.code == 0:
        try:
            return dict(json.loads(done.output))
        except ValueError:
            raise Failed(f"{host}: edgeward there answered with no JSON: {done.output[:200]!r}") from None
    said = [line for line in done.complaint.splitlines() if line.strip()]
    message = next((line.removeprefix("edgeward: ") for line in said if line.startswith("edgeward: ")), None)
    hint = next((line.strip().removeprefix("try: ") for line in said if line.strip().startswith("try: ")), None)
    kind = _KINDS.get(done.code, Failed)
    raise kind(f"{host}: {message or f'it ended with exit code {done.code}: ' + ' '.join(said[-1:])}", hint=hint)


def _archives(abi: Abi, runtime: str) -> dict[str, Path]:
    """Edgeward and what it and the runtime need there, by digest."""
    parts = (closure.own(abi), closure.dependencies(closure.closure_of(abi, runtime)))
    return {part.digest.removeprefix("sha256:"): part.path for part in parts}


def _files(order: Order, keys: Path) -> dict[str, tuple[str, Path]]:
    """Paths in the folder there, each with the digest and the place of its bytes here; `keys` is an empty folder for
    the public keys of those that signed."""
    found = {f"bundle/{path.relative_to(order.folder)}": path for path in _layout(order.folder)}
    for number, signer in enumerate(order.verified.signers, 1):
        (keys / f"signer-{number}.pub").write_bytes(signer.to_pem())
    found |= {f"keys/{path.name}": path for path in keys.glob("*.pub")}
    return {name: (digest_of_file(path).removeprefix("sha256:"), path) for name, path in sorted(found.items())}


def _layout(folder: Path) -> list[Path]:
    blobs = sorted((folder / "blobs" / "sha256").iterdir())
    return [folder / "oci-layout", folder / "index.json", *(path for path in blobs if len(path.name) == 64)]


def _name(archives: Mapping[str, Path]) -> str:
    """Of a release: the same packages have the same name."""
    return hashlib.sha256("".join(sorted(archives)).encode()).hexdigest()[:16]
