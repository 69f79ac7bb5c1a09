"""Refuses what is unsigned, altered, cut, too new or signed by a stranger. A VerifiedBundle is what passes."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeward.bundle.checking import signatures_of, signers_of
from edgeward.bundle.contents import Contents, find_model, read_contents, read_files, used
from edgeward.bundle.keys import PublicKey, Trust
from edgeward.bundle.layout import DOC_TYPE, Layout
from edgeward.bundle.npz import from_npz
from edgeward.kit.blobs import Blobs
from edgeward.records.bundle import Bundle, Manifest, Signature

_SEAL = object()


class VerifiedBundle:
    """Bytes that a trusted key signed, checked and kept in memory. `verify` makes it; there is no other way."""

    def __init__(self, seal: object, contents: Contents, signers: tuple[PublicKey, ...]) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedBundle comes from edgeward.bundle.verified alone")
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
    signers = signers_of(layout, found[0].digest, trust)
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


def _record(contents: Contents, keys: tuple[str, ...]) -> Bundle:
    return Bundle(
        reference=str(contents.layout.folder),
        digest=contents.digest,
        manifest=contents.manifest,
        signatures=tuple(Signature(key=key, format="sigstore-bundle-v0.3") for key in keys),
    )
