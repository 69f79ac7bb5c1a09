"""The thing we ship: assembled, signed, verified. Nothing unverified runs: `verify` alone makes a VerifiedBundle."""

from typing import TYPE_CHECKING, Any

from edgeward.bundle.assemble import Parts, assemble, reassemble
from edgeward.bundle.keys import (
    SigningKey,
    Trust,
    create_key,
    default_key_path,
    load_key,
    load_or_create_key,
    public_path_of,
    trusted_keys,
)
from edgeward.bundle.layout import find_bundle
from edgeward.bundle.selftest import SelfTestResult, expected_outputs, open_predictor, run_self_test, threads_for
from edgeward.bundle.sign import sign
from edgeward.bundle.verify import VerifiedBundle, peek, report_of, verify
from edgeward.bundle.versions import same_major

if TYPE_CHECKING:
    from edgeward.bundle.plain import Identity, RawSamples, parts_of_onnx

__all__ = [
    "Identity",
    "Parts",
    "RawSamples",
    "SelfTestResult",
    "SigningKey",
    "Trust",
    "VerifiedBundle",
    "assemble",
    "create_key",
    "default_key_path",
    "expected_outputs",
    "find_bundle",
    "load_key",
    "load_or_create_key",
    "open_predictor",
    "parts_of_onnx",
    "peek",
    "public_path_of",
    "reassemble",
    "report_of",
    "run_self_test",
    "same_major",
    "sign",
    "threads_for",
    "trusted_keys",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Opens plain.py only for who packs a plain model: what runs a bundle does not pay for it."""
    if name in ("Identity", "RawSamples", "parts_of_onnx"):
        from edgeward.bundle import plain

        return getattr(plain, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
