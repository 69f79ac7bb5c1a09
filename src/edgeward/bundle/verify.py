"""Refuses what is unsigned, altered, cut, too new or signed by a stranger. A VerifiedBundle is what passes."""

from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from edgeward.bundle import sigstore
from edgeward.bundle.contents import Contents, find_model, read_contents, read_files, used
from edgeward.bundle.keys import PublicKey, Trust
from edgeward.bundle.layout import DOC_TYPE, MANIFEST_LIMIT_BYTES, SIGNATURE_TYPE, Layout, OciManifest, decode
from edgeward.bundle.npz import from_npz
from edgeward.kit.blobs import Blobs
from edgeward.kit.errors import Refused
from edgeward.records.bundle import Bundle, Manifest, Signature

_SEAL = object()


class StoredSignature(NamedTuple):
    """A signature that the layout lists for this bundle; nobody has judged it yet."""

    where: str
    bundle: sigstore.SigstoreBundle

    def is_by(self, key: PublicKey, digest: str) -> bool:
        return sigstore.is_signed_by(self.bundle, key, digest, self.where)


class VerifiedBundle:
    """Bytes that a trusted key signed, checked and kept in memory. `verify` makes it; there is no other way."""

    def __init__(self, seal: object, contents: Contents, signers: tuple[PublicKey, ...]) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedBundle comes from edgeward.bundle.verify alone")
        self.bundle = _record(contents, tuple(signer.fingerprint for signer in signers))
        self.signers = signers
        needed = [one.digest for one in used(contents.manifest)]
        kept = read_files(contents, needed)
        self.model, self._inputs, self._expected = (kept[digest] for digest in needed)
        self.file_count = len(contents.files)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def reference(self) -> str:
        """The place it was read from."""
        return self.bundle.reference

    def self_test(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Raw inputs and expected outputs, samples on the first axis."""
        return from_npz(self._inputs, "selftest/inputs.npz"), from_npz(self._expected, "selftest/expected.npz")


def verify(folder: Path, trust: Trust) -> VerifiedBundle:
    """The bundle in `folder`, when a key of `trust` signed it and every byte is as it was signed.

    Raises Refused with the reason when not, WrongInput when it is no bundle at all.
    """
    layout = Layout(folder)
    found = find_model(layout)
    signers = _signers(layout, found[0].digest, trust)
    return VerifiedBundle(_SEAL, read_contents(layout, found), signers)


def report_of(verified: VerifiedBundle) -> bytes | None:
    """The report of the search that made it, read anew and checked; None where it brings none."""
    manifest = verified.manifest
    layer = next((one for one in manifest.layers if one.media_type == DOC_TYPE), None)
    if layer is None:
        return None
    return Blobs(Path(verified.reference)).get(layer.digest, layer.size_bytes)


def peek(folder: Path) -> Bundle:
    """What the bundle claims to be: bytes checked against their digests, signatures listed but not judged."""
    layout = Layout(folder)
    contents = read_contents(layout)
    read_files(contents, keep=())
    return _record(contents, tuple(one.bundle.hint for one in signatures_of(layout, contents.digest)))


def signatures_of(layout: Layout, digest: str) -> list[StoredSignature]:
    """The signatures that the layout lists for `digest`. Raises Refused when one of them is damaged."""
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
            found.append(StoredSignature(where, sigstore.read(data, where)))
    return found


def _signers(layout: Layout, digest: str, trust: Trust) -> tuple[PublicKey, ...]:
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


def _record(contents: Contents, keys: tuple[str, ...]) -> Bundle:
    return Bundle(
        reference=str(contents.layout.folder),
        digest=contents.digest,
        manifest=contents.manifest,
        signatures=tuple(Signature(key=key, format="sigstore-bundle-v0.3") for key in keys),
    )
