"""The thing we ship: assembled, signed, verified. Nothing unverified runs: `verify` alone makes a VerifiedBundle."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeward.bundle.assembly import Parts, assemble, reassemble
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
    from edgeward.bundle.plain import Identity, RawSamples, parts_of_onnx
    from edgeward.bundle.selftest import (
        Cost,
        SelfTestResult,
        cost_of,
        expected_outputs,
        open_predictor,
        run_self_test,
        threads_for,
    )
    from edgeward.bundle.signing import attest, sign
    from edgeward.bundle.verified import VerifiedBundle, peek, report_of, verify
    from edgeward.bundle.versions import same_major

__all__ = [
    "Cost",
    "Identity",
    "Parts",
    "RawSamples",
    "SelfTestResult",
    "SigningKey",
    "Trust",
    "VerifiedBundle",
    "assemble",
    "attest",
    "cost_of",
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

_PLACES = {
    "assembly": ("Parts", "assemble", "reassemble"),
    "keys": (
        "SigningKey",
        "Trust",
        "create_key",
        "default_key_path",
        "load_key",
        "load_or_create_key",
        "public_path_of",
        "trusted_keys",
    ),
    "layout": ("find_bundle",),
    "plain": ("Identity", "RawSamples", "parts_of_onnx"),
    "selftest": (
        "Cost",
        "SelfTestResult",
        "cost_of",
        "expected_outputs",
        "open_predictor",
        "run_self_test",
        "threads_for",
    ),
    "signing": ("attest", "sign"),
    "verified": ("VerifiedBundle", "peek", "report_of", "verify"),
    "versions": ("same_major",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Opens a file of this room when a name of it is used: a device's caretaker does not pay for what makes bundles."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
