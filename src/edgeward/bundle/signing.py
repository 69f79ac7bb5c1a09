"""Signs a bundle: a sigstore bundle beside it, as an OCI referrer. The bundle itself stays as it is.

Statements about it (its bill of materials, where it came from) are signed and kept in the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec.structs import replace

from edgeward.bundle import bom, provenance, sigstore
from edgeward.bundle import layout as oci
from edgeward.bundle.assembly import REPORT_PATH
from edgeward.bundle.checking import said_of, signatures_of
from edgeward.bundle.contents import Contents, read_contents, read_files
from edgeward.bundle.keys import SigningKey
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.bundle import Signature
from edgeward.records.candidate import Report


def sign(folder: Path, key: SigningKey) -> Signature:
    """Adds the signature of `key`. Signing twice with one key changes nothing; other signatures stay.

    Raises Refused for a bundle that is not whole: nobody should sign what they did not mean to.
    """
    layout = oci.Layout(folder)
    made = Signature(key=key.fingerprint, format="sigstore-bundle-v0.3")
    with layout.alone():
        contents = read_contents(layout)
        read_files(contents, keep=())
        digest = contents.digest
        if any(one.is_by(key.public, digest) for one in signatures_of(layout, digest)):
            return made
        add_signature(layout, digest, key)
    return made


def attest(folder: Path, key: SigningKey) -> tuple[str, ...]:
    """Adds what `key` states of the bundle: its bill of materials and its provenance; the types of the predicates.

    What `key` stated already stays as it is. Raises Refused for a bundle that is not whole.
    """
    layout = oci.Layout(folder)
    with layout.alone():
        contents = read_contents(layout)
        read_files(contents, keep=())
        manifest, digest = contents.manifest, contents.digest
        report = _report(contents)
        stated = {one.says for one in said_of(layout, digest) if one.is_by(key.public, digest)}
        statements = {
            bom.PREDICATE_TYPE: bom.bill_of_materials(digest, manifest, report),
            provenance.PREDICATE_TYPE: provenance.provenance(manifest, report),
        }
        for kind, predicate in statements.items():
            if kind not in stated:
                add_signature(layout, digest, key, kind, predicate)
    return tuple(statements)


def add_signature(
    layout: oci.Layout, digest: str, key: SigningKey, kind: str = sigstore.PREDICATE_TYPE,
    predicate: Mapping[str, object] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Signs the manifest `digest` as it is, or a statement about it, and lists that, whatever the manifest holds."""
    index = layout.index()
    subject = next(entry for entry in index.manifests if entry.digest == digest)
    entry = _put(layout, subject, sigstore.make(digest, key, kind, predicate), kind)
    layout.write_index(replace(index, manifests=(*index.manifests, entry)))


def _report(contents: Contents) -> Report | None:
    """Of the search that made the bundle. A report of another form, such as somebody's own, says nothing here."""
    layer = contents.files.get(REPORT_PATH)
    if layer is None:
        return None
    try:
        return codec.from_json(contents.layout.read(layer, REPORT_PATH), Report, REPORT_PATH)
    except WrongInput:
        return None


def _put(layout: oci.Layout, subject: oci.OciDescriptor, signed: bytes, kind: str) -> oci.OciDescriptor:
    title = f"{subject.digest.replace(':', '-')}.sigstore.json"
    bundle = layout.put(signed, oci.SIGNATURE_TYPE, {"org.opencontainers.image.title": title})
    referrer = oci.OciManifest(
        schema_version=2,
        media_type=oci.MANIFEST_TYPE,
        artifact_type=oci.SIGNATURE_TYPE,
        config=replace(layout.put(b"{}", oci.EMPTY_TYPE), data="e30="),
        layers=(bundle,),
        subject=oci.OciDescriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations={
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": kind,
        },
    )
    stored = layout.put(codec.to_canonical_json(referrer), oci.MANIFEST_TYPE)
    return replace(stored, artifact_type=oci.SIGNATURE_TYPE)
