"""Keys on disk and which of them are trusted: ECDSA on the curve P-256, in PEM."""

import base64
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from edgeward.kit import files, log
from edgeward.kit.codec import digest_of
from edgeward.kit.errors import WrongInput

_KEY_LIMIT_BYTES = 65_536
# The DER of every uncompressed P-256 SubjectPublicKeyInfo up to the point itself (RFC 5480). A device checks
# signatures, so public keys are read here by hand: cryptography's PEM reader costs 13 ms of a cold start.
_SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_POINT_BYTES = 65


class PublicKey(NamedTuple):
    """A key that checks signatures. `fingerprint` is the SHA-256 of its DER SubjectPublicKeyInfo."""

    fingerprint: str
    source: str
    key: ec.EllipticCurvePublicKey

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        try:
            self.key.verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """As `read_public_pem` reads it."""
        from cryptography.hazmat.primitives import serialization as form

        return self.key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


class Trust(NamedTuple):
    """The keys whose signatures count here."""

    keys: tuple[PublicKey, ...]


class SigningKey:
    """A private key in memory; `path` is the file it came from."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, path: Path) -> None:
        self._key = key
        self.path = path
        self.public_pem = _public_pem(key)
        self.public = read_public_pem(self.public_pem, str(path))

    @property
    def fingerprint(self) -> str:
        return self.public.fingerprint

    def sign(self, message: bytes) -> bytes:
        """A DER signature; the same for the same message where OpenSSL can do that (RFC 6979)."""
        try:
            return self._key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:
            return self._key.sign(message, ec.ECDSA(SHA256()))


def config_folder() -> Path:
    """$XDG_CONFIG_HOME/edgeward, where this user's keys are kept."""
    configured = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else Path.home() / ".config") / "edgeward"


def default_key_path() -> Path:
    """Where this user's own signing key stands or will stand."""
    return config_folder() / "signing.key"


def public_path_of(path: Path) -> Path:
    """Where the public half of the private key `path` stands: the same name, ending in .pub."""
    return path.with_suffix(".pub")


def load_or_create_key(path: Path | None = None) -> tuple[SigningKey, bool]:
    """The key at `path`, or this user's own; and whether it was made just now, because there was none."""
    path = default_key_path() if path is None else path
    if not path.exists():
        try:
            return create_key(path), True
        except FileExistsError:  # another process made it in this moment: its key is the key
            pass
    key = load_key(path)
    public = public_path_of(path)
    if path == default_key_path() and (not public.exists() or public.read_bytes() != key.public_pem):
        files.write_atomic(public, key.public_pem)
    return key, False


def create_key(path: Path) -> SigningKey:
    """A new pair: `path`, which only its owner may read, and the public half beside it. Raises FileExistsError
    when something stands at `path`. Encrypted when EDGEWARD_KEY_PASSWORD is set."""
    from cryptography.hazmat.primitives import serialization as form

    if path.suffix == ".pub":
        raise WrongInput(f"{path}: .pub is the ending of public keys", hint=f"--new-key {path.with_suffix('.key')}")
    password = _password()
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        form.Encoding.PEM,
        form.PrivateFormat.PKCS8,
        form.BestAvailableEncryption(password) if password else form.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_new(path, pem)
    key = load_key(path)
    files.write_atomic(public_path_of(path), key.public_pem)
    return key


def load_key(path: Path) -> SigningKey:
    """The private key in the PEM file `path`. Raises WrongInput when it is none, or its password is missing."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_key_file(path, hint=f"edgeward sign BUNDLE --new-key {path}")
    if b"PUBLIC KEY" in pem:
        raise WrongInput(f"{path}: is a public key; signing wants the private one")
    password = _password() if b"ENCRYPTED" in pem else None
    if b"ENCRYPTED" in pem and password is None:
        raise WrongInput(f"{path}: is encrypted", hint="EDGEWARD_KEY_PASSWORD=… edgeward sign …")
    try:
        key = load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        got = "its password is not the one in EDGEWARD_KEY_PASSWORD" if password else "is no private key in PEM"
        raise WrongInput(f"{path}: {got}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongInput(f"{path}: is {_kind_of(key)}; wanted ECDSA P-256", hint="edgeward sign BUNDLE --new-key FILE")
    if path.stat().st_mode & 0o077:
        log.warning("private-key-readable-by-others", path=path, mend=f"chmod 600 {path}")
    return SigningKey(key, path)


def trusted_keys(paths: Sequence[Path] = ()) -> Trust:
    """The keys to trust: `paths`; else those in EDGEWARD_TRUSTED_KEYS; else this user's own and every *.pub in
    the configuration's `trusted` folder. Raises WrongInput for what is no key."""
    named = list(paths) or [
        Path(part) for part in os.environ.get("EDGEWARD_TRUSTED_KEYS", "").split(os.pathsep) if part
    ]
    if not named:
        own = public_path_of(default_key_path())
        named = [path for path in (own,) if path.exists()] + sorted((config_folder() / "trusted").glob("*.pub"))
    return Trust(_without_repeats(_read_public_key(path) for path in named))


def read_public_pem(pem: bytes, source: str) -> PublicKey:
    """The ECDSA P-256 public key in `pem`. Raises WrongInput that names `source`."""
    begin, end = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"
    if b"PRIVATE KEY-----" in pem:
        raise WrongInput(f"{source}: is a private key; wanted the public one, which ends in .pub")
    _, found, rest = pem.partition(begin)
    body, closed, _ = rest.partition(end)
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except ValueError:
        der = b""
    if not found or not closed or not der:
        raise WrongInput(f"{source}: is no public key in PEM", hint=f"openssl pkey -in PRIVATE -pubout -out {source}")
    if not der.startswith(_SPKI_PREFIX) or len(der) != len(_SPKI_PREFIX) + _POINT_BYTES:
        raise WrongInput(f"{source}: is a public key of another kind; wanted ECDSA P-256")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), der[len(_SPKI_PREFIX) :])
    except ValueError as error:
        raise WrongInput(f"{source}: is a damaged public key: its point is not on the curve") from error
    return PublicKey(digest_of(der), source, key)


def _public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def _read_public_key(path: Path) -> PublicKey:
    return read_public_pem(_read_key_file(path, hint=f"ls -l {path.parent}"), str(path))


def _read_key_file(path: Path, *, hint: str) -> bytes:
    if not path.exists():
        raise WrongInput(f"{path}: no such key", hint=hint)
    if not path.is_file():
        raise WrongInput(f"{path}: is no file, wanted a key in PEM")
    with path.open("rb") as file:
        data = file.read(_KEY_LIMIT_BYTES + 1)
    if len(data) > _KEY_LIMIT_BYTES:
        raise WrongInput(f"{path}: is too long to be a key in PEM")
    return data


def _write_new(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, whole and private, and never over something that stands there."""
    files.sweep(path)
    handle, temporary = files.locked_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    files.sync_folder(path.parent)


def _without_repeats(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple({key.fingerprint: key for key in keys}.values())


def _password() -> bytes | None:
    return os.environ.get("EDGEWARD_KEY_PASSWORD", "").encode() or None


def _kind_of(key: Any) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"a key on the curve {key.curve.name}"
    return f"an {type(key).__name__.removeprefix('_').removesuffix('PrivateKey')} key"
