"""Whether a bundle is whole and whose it is, told without keeping its bytes: for a device's caretaker."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edgeward.bundle import sigstore
from edgeward.bundle.contents import find_model, read_contents, read_files
from edgeward.bundle.keys import PublicKey, Trust
from edgeward.bundle.layout import MANIFEST_LIMIT_BYTES, SIGNATURE_TYPE, Layout, OciManifest, decode
from edgeward.kit.errors import Refused
from edgeward.records.bundle import Manifest


class Checked(NamedTuple):
    """What `check` found in a folder at that moment. Its bytes may be others later: who runs them verifies again."""

    digest: str
    manifest: Manifest
    signers: tuple[PublicKey, ...]


class StoredSignature(NamedTuple):
    """Something signed that the layout lists for this bundle; nobody has judged it yet. `says` is the type of its
    predicate: that of a signature, or of a statement such as a bill of materials."""

    where: str
    bundle: sigstore.SigstoreBundle
    says: str

    def is_by(self, key: PublicKey, digest: str) -> bool:
        return sigstore.is_signed_by(self.bundle, key, digest, self.where)


def check(folder: Path, trust: Trust) -> Checked:
    """The bundle in `folder`, when a key of `trust` signed it and every byte is as it was signed.

    Raises Refused with the reason when not, WrongInput when it is no bundle at all. However large it is, it takes no
    more memory than its manifest and a part of a file.
    """
    layout = Layout(folder)
    found = find_model(layout)
    signers = signers_of(layout, found[0].digest, trust)
    contents = read_contents(layout, found)
    read_files(contents, keep=())
    return Checked(contents.digest, contents.manifest, signers)


def signatures_of(layout: Layout, digest: str) -> list[StoredSignature]:
    """The signatures that the layout lists for `digest`. Raises Refused when one of them is damaged."""
    return [one for one in said_of(layout, digest) if one.says == sigstore.PREDICATE_TYPE]


def said_of(layout: Layout, digest: str) -> list[StoredSignature]:
    """All that is signed about `digest`: signatures and statements. Raises Refused when one of them is damaged."""
    found = []
    for entry, kind, raw in layout.manifests():
        if kind != SIGNATURE_TYPE:
            continue
        where = f"{layout.folder}: signature {entry.digest}"
        referrer = decode(raw, OciManifest, where)
        if referrer.subject is None or len(referrer.layers) != 1:
            raise Refused(f"{where}: wanted a subject and one layer")
        if referrer.subject.digest == digest:
            layout.check(referrer.config, "signature's config")
            data = layout.read(referrer.layers[0], "signature", limit_bytes=MANIFEST_LIMIT_BYTES)
            bundle = sigstore.read(data, where)
            found.append(StoredSignature(where, bundle, sigstore.statement_in(bundle, where)[0]))
    return found


def stated_of(layout: Layout, digest: str, trust: Trust) -> dict[str, Mapping[str, object]]:
    """What trusted keys state about `digest`, by the type of the predicate: bill of materials, provenance, others'."""
    found = {}
    for one in said_of(layout, digest):
        if one.says != sigstore.PREDICATE_TYPE and any(one.is_by(key, digest) for key in trust.keys):
            found[one.says] = sigstore.statement_in(one.bundle, one.where)[1]
    return found


def signers_of(layout: Layout, digest: str, trust: Trust) -> tuple[PublicKey, ...]:
    """The trusted keys that signed `digest`, at least one. Raises Refused with the reason when there is none."""
    signatures = signatures_of(layout, digest)
    if not signatures:
        raise _unsigned(layout, digest)
    signers = []
    for signature in signatures:
        signer = next((key for key in trust.keys if signature.is_by(key, digest)), None)
        if signer is None and any(signature.bundle.hint == key.fingerprint for key in trust.keys):
            raise Refused(f"{signature.where}: is invalid: it names the trusted key {signature.bundle.hint}, which did "
                          "not make it")  # fmt: skip
        if signer is not None:
            signers.append(signer)
    if not signers:
        raise _signed_by_strangers(layout.folder, signatures, trust)
    return tuple({signer.fingerprint: signer for signer in signers}.values())


def _unsigned(layout: Layout, digest: str) -> Refused:
    if any(kind == SIGNATURE_TYPE for _, kind, _ in layout.manifests()):
        return Refused(f"{layout.folder}: is not signed: the signatures in it are of another bundle, not of {digest}")
    return Refused(f"{layout.folder}: is not signed", hint=f"edgeward sign {layout.folder}")


def _signed_by_strangers(folder: Path, signatures: list[StoredSignature], trust: Trust) -> Refused:
    got = ", ".join(signature.bundle.hint for signature in signatures)
    if not trust.keys:
        return Refused(
            f"{folder}: is signed by {got}, and no key is trusted on this machine",
            hint=f"edgeward verify {folder} --key PUBLIC.pub",
        )
    trusted = ", ".join(f"{key.fingerprint} ({key.source})" for key in trust.keys)
    return Refused(
        f"{folder}: is signed by an unknown key: {got}; trusted: {trusted}",
        hint=f"edgeward verify {folder} --key PUBLIC.pub",
    )
