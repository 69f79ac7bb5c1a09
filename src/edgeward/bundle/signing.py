"""Signs a bundle: a sigstore bundle beside it, as an OCI referrer. The bundle itself stays as it is."""

from pathlib import Path

from msgspec.structs import replace

from edgeward.bundle import layout as oci
from edgeward.bundle import sigstore
from edgeward.bundle.checking import signatures_of
from edgeward.bundle.contents import read_contents, read_files
from edgeward.bundle.keys import SigningKey
from edgeward.kit import codec
from edgeward.records.bundle import Signature


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


def add_signature(layout: oci.Layout, digest: str, key: SigningKey) -> None:
    """Signs the manifest `digest` as it is and lists the signature, whatever the manifest holds."""
    index = layout.index()
    subject = next(entry for entry in index.manifests if entry.digest == digest)
    entry = _put_signature(layout, subject, key)
    layout.write_index(replace(index, manifests=(*index.manifests, entry)))


def _put_signature(layout: oci.Layout, subject: oci.OciDescriptor, key: SigningKey) -> oci.OciDescriptor:
    title = f"{subject.digest.replace(':', '-')}.sigstore.json"
    bundle = layout.put(
        sigstore.make(subject.digest, key), oci.SIGNATURE_TYPE, {"org.opencontainers.image.title": title}
    )
    referrer = oci.OciManifest(
        schema_version=2,
        media_type=oci.MANIFEST_TYPE,
        artifact_type=oci.SIGNATURE_TYPE,
        config=replace(layout.put(b"{}", oci.EMPTY_TYPE), data="e30="),
        layers=(bundle,),
        subject=oci.OciDescriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations={
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": sigstore.PREDICATE_TYPE,
        },
    )
    stored = layout.put(codec.to_canonical_json(referrer), oci.MANIFEST_TYPE)
    return replace(stored, artifact_type=oci.SIGNATURE_TYPE)
