"""A sigstore bundle v0.3 made with a plain key: an in-toto statement in a DSSE envelope. Written and judged here."""

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from edgeward.bundle.keys import PublicKey, SigningKey
from edgeward.bundle.layout import SIGNATURE_TYPE, decode
from edgeward.kit import codec
from edgeward.kit.errors import Refused
from edgeward.records.base import Record

PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class _Hint(Record):
    hint: str = ""


class _Material(Record, rename="camel"):
    public_key: _Hint | None = None
    tlog_entries: tuple[dict[str, object], ...] = ()


class _Sig(Record):
    sig: str
    keyid: str = ""


class _Envelope(Record, rename="camel"):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[_Sig, ...]


class SigstoreBundle(Record, rename="camel"):
    """The file that `cosign` and others read too."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope

    @property
    def hint(self) -> str:
        """Whose signature it claims to be: our fingerprint, or what another program wrote there."""
        key = self.verification_material.public_key
        return key.hint if key else "a certificate"


class _Subject(Record):
    digest: dict[str, str]
    name: str = ""


class _Statement(Record, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: Literal["https://in-toto.io/Statement/v1"]
    subject: tuple[_Subject, ...]
    predicate_type: str
    predicate: Mapping[str, object] = {}


def make(
    manifest_digest: str, key: SigningKey, predicate_type: str = PREDICATE_TYPE,
    predicate: Mapping[str, object] = MappingProxyType({}),
) -> bytes:  # fmt: skip
    """The bundle in which `key` says something of this manifest; by default: it is mine."""
    algorithm, _, value = manifest_digest.partition(":")
    statement = _Statement(
        type="https://in-toto.io/Statement/v1",
        subject=(_Subject(digest={algorithm: value}),),
        predicate_type=predicate_type,
        predicate=dict(predicate),
    )
    return envelope_of(codec.to_canonical_json(statement), key)


def envelope_of(payload: bytes, key: SigningKey, hint: str | None = None) -> bytes:
    """A bundle in which `key` signs an in-toto statement. The `hint` says whose it is, by default our fingerprint."""
    signature = key.sign(_signed_bytes(payload))
    bundle = SigstoreBundle(
        media_type=SIGNATURE_TYPE,
        verification_material=_Material(public_key=_Hint(hint=hint or key.fingerprint)),
        dsse_envelope=_Envelope(
            payload=base64.b64encode(payload).decode(),
            payload_type=PAYLOAD_TYPE,
            signatures=(_Sig(sig=base64.b64encode(signature).decode()),),
        ),
    )
    return codec.to_canonical_json(bundle)


def read(data: bytes, where: str) -> SigstoreBundle:
    """Raises Refused for what is no sigstore bundle with one DSSE signature."""
    bundle = decode(data, SigstoreBundle, where)
    if len(bundle.dsse_envelope.signatures) != 1:
        raise Refused(f"{where}: holds {len(bundle.dsse_envelope.signatures)} signatures in one envelope; wanted one")
    return bundle


def opened(data: bytes, key: PublicKey, where: str) -> bytes:
    """The statement in a bundle. Raises Refused unless `key` signed it."""
    envelope = read(data, where).dsse_envelope
    payload = _from_base64(envelope.payload, where)
    if not key.has_signed(_signed_bytes(payload), _from_base64(envelope.signatures[0].sig, where)):
        raise Refused(f"{where}: is not signed by {key.fingerprint}")
    return payload


def statement_in(bundle: SigstoreBundle, where: str) -> tuple[str, Mapping[str, object]]:
    """What it says, by its predicate's type; nobody has judged yet who says so. Raises Refused for no statement."""
    payload = _from_base64(bundle.dsse_envelope.payload, where)
    statement = decode(payload, _Statement, f"{where}: its statement")
    return statement.predicate_type, statement.predicate


def is_signed_by(bundle: SigstoreBundle, key: PublicKey, manifest_digest: str, where: str) -> bool:
    """Whether `key` made this signature. Raises Refused when it did, and signed something else."""
    envelope = bundle.dsse_envelope
    payload = _from_base64(envelope.payload, where)
    signature = _from_base64(envelope.signatures[0].sig, where)
    if not key.has_signed(_signed_bytes(payload), signature):
        return False
    statement = decode(payload, _Statement, f"{where}: its statement")
    if [subject.digest.get("sha256") for subject in statement.subject] != [manifest_digest.removeprefix("sha256:")]:
        raise Refused(f"{where}: is the signature of another bundle: it does not sign {manifest_digest}")
    return True


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _from_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused(f"{where}: is not readable: its base64 is damaged") from None
