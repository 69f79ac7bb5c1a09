"""The older form of cosign's signatures ("simple signing"), the one that Podman, Skopeo and CRI-O look for.

It stands under the tag sha256-HEX.sig of the same repository: one manifest with a layer for each signature. The
registry's name is signed too, so that who pulls from a repository knows that this one was meant.
"""

import base64
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgeward.bundle import layout as oci
from edgeward.bundle.contents import read_contents, read_files
from edgeward.bundle.keys import SigningKey
from edgeward.kit import codec

SIGNATURE_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_REF_NAME = "org.opencontainers.image.ref.name"
_NEVER = "0001-01-01T00:00:00Z"


def sign_for(folder: Path, repository: str, key: SigningKey) -> None:
    """Adds the signature of `key` for the bundle as HOST/NAME has it. Those of other keys stay; twice is harmless.

    Raises Refused for a bundle that is not whole.
    """
    layout = oci.Layout(folder)
    with layout.alone():
        contents = read_contents(layout)
        read_files(contents, keep=())
        tag = f"{contents.digest.replace(':', '-')}.sig"
        index = layout.index()
        old = next((entry for entry in index.manifests if entry.annotations.get(_REF_NAME) == tag), None)
        layers = () if old is None else _layers(layout, old)
        payload = _payload(contents.digest, repository)
        if any(layer.digest == codec.digest_of(payload) and _is_by(layer, key, payload) for layer in layers):
            return
        signature = base64.b64encode(key.sign(payload)).decode()
        made = layout.put(payload, SIGNATURE_TYPE, {_SIGNATURE: signature})
        entry = replace(_manifest(layout, (*layers, made)), annotations={_REF_NAME: tag})
        others = tuple(one for one in index.manifests if one is not old)
        layout.write_index(replace(index, manifests=(*others, entry)))


def _payload(digest: str, repository: str) -> bytes:
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return codec.to_canonical_json({"critical": critical, "optional": {}})


def _layers(layout: oci.Layout, entry: oci.OciDescriptor) -> tuple[oci.OciDescriptor, ...]:
    data = layout.read(entry, "a signature", limit_bytes=oci.MANIFEST_LIMIT_BYTES)
    return oci.decode(data, oci.OciManifest, f"{layout.folder}: signature {entry.digest}").layers


def _is_by(layer: oci.OciDescriptor, key: SigningKey, payload: bytes) -> bool:
    try:
        signature = base64.b64decode(layer.annotations.get(_SIGNATURE, ""), validate=True)
    except ValueError:
        return False
    return key.public.has_signed(payload, signature)


def _manifest(layout: oci.Layout, layers: tuple[oci.OciDescriptor, ...]) -> oci.OciDescriptor:
    config = {
        "architecture": "", "config": {}, "created": _NEVER, "history": [{"created": _NEVER} for _ in layers], "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }  # fmt: skip
    document = oci.OciManifest(
        schema_version=2,
        media_type=oci.MANIFEST_TYPE,
        config=layout.put(codec.to_canonical_json(config), _CONFIG_TYPE),
        layers=layers,
    )
    return layout.put(codec.to_canonical_json(document), oci.MANIFEST_TYPE)
