"""A signing key that a security token (PKCS#11) or a key service (KMS) holds: asked to sign, never read.

securesystemslib speaks with them; its URIs name a key: "hsm:2?label=release", "awskms:…", "gcpkms:…", "azurekms:…",
"hv:…" (HashiCorp Vault).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeward.bundle.keys import PublicKey, SigningKey, read_public_pem
from edgeward.kit import files
from edgeward.kit.errors import EdgewardError, Failed, Unsupported, WrongInput

SCHEMES = ("hsm", "awskms", "gcpkms", "azurekms", "hv")
_TOKEN = "hsm"  # noqa: S105 - the name of a scheme
_EXTRAS = {"hsm": "edgeward[hsm]", "hv": "securesystemslib[vault]"}
AskPin = Callable[[str], str]
"""Called with what is wanted ("pin"), for a secret of the person's."""


class HeldKey(SigningKey):
    """`path` is its URI, for a person to read."""

    def __init__(self, uri: str, public: PublicKey, signer: Any) -> None:
        self.path, self.public, self.public_pem = Path(uri), public, public.to_pem()
        self._uri, self._signer = uri, signer

    def sign(self, message: bytes) -> bytes:
        """A DER signature. Raises Failed where the token or service does not give one."""
        try:
            signature = bytes.fromhex(self._signer.sign(message).signature)
        except EdgewardError:
            raise
        except Exception as error:
            raise Failed(f"{self._uri}: did not sign: {_words(error)}") from error
        if not self.public.has_signed(message, signature):
            raise WrongInput(f"{self._uri}: signs with another key than {self.public.source}")
        return signature


def is_uri(text: str) -> bool:
    return text.partition(":")[0] in SCHEMES and ":" in text


def open_key(uri: str, public: Path | None, ask: AskPin) -> HeldKey:
    """The key that `uri` names; `public` is the file with its public half. A token tells that itself, and it is written
    to `public` where nothing stands there.

    Raises Unsupported where a package for it is missing, WrongInput where there is no such key or no public half.
    """
    scheme = uri.partition(":")[0]
    try:
        from securesystemslib.exceptions import UnsupportedLibraryError
        from securesystemslib.signer import Signer, SSlibKey  # type: ignore[attr-defined]
    except ImportError:
        raise _lacking(scheme) from None
    try:
        if public is None or not public.exists():
            told = _of_token(uri, ask)
            if public is not None:
                files.write_atomic(public, told.to_pem())
        else:
            told = read_public_pem(public.read_bytes(), str(public))
        signer = Signer.from_priv_key_uri(uri, SSlibKey.from_crypto(told.key), ask)
    except UnsupportedLibraryError:
        raise _lacking(scheme) from None
    except EdgewardError:
        raise
    except Exception as error:
        raise WrongInput(f"{uri}: {_words(error)}") from error
    return HeldKey(uri, told, signer)


def _of_token(uri: str, ask: AskPin) -> PublicKey:
    """The public half as the token tells it."""
    from urllib.parse import parse_qs

    from securesystemslib.signer import HSMSigner  # type: ignore[attr-defined]

    scheme, _, rest = uri.partition(":")
    if scheme != _TOKEN:
        raise WrongInput(f"{uri}: its public key is wanted too", hint=f"edgeward sign BUNDLE --key {uri} --public FILE")
    number, _, query = rest.partition("?")
    if number and not number.isdecimal():
        raise WrongInput(f"{uri}: wanted hsm:NUMBER?label=TOKEN", hint="hsm:2?label=release")
    label = parse_qs(query).get("label", [None])[0]
    _, key = HSMSigner.import_(int(number) if number else None, label, ask)
    return read_public_pem(key.keyval["public"].encode(), uri)


def _lacking(scheme: str) -> Unsupported:
    package = _EXTRAS.get(scheme, f"securesystemslib[{scheme}]")
    return Unsupported(f"keys of {scheme}: need a package that is not installed", hint=f"pip install '{package}'")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
