"""edgeward verify: checks a bundle, every byte of it, and who signed it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import Cost, SelfTestResult, VerifiedBundle


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--key", "keys", type=PATH, multiple=True, metavar="PUB",
    help="Trust this public key (PEM) and no other; may be repeated.",
)  # fmt: skip
@click.option("--self-test", "with_test", is_flag=True, help="Also run it here, and compare its answers.")
@click.option("--target", metavar="NAME", help="By the tolerance and figures of this target; by default the machine's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(bundle: Path, keys: tuple[Path, ...], with_test: bool, target: str | None, as_json: bool) -> None:
    """Check a bundle: every byte, and who signed it. Exit code 6 says that it is refused, and why.

    Trusted are the keys given with --key, else those in EDGEWARD_TRUSTED_KEYS, else your own key and every
    .pub file in ~/.config/edgeward/trusted.

    \b
    edgeward verify out/bundle
    edgeward verify out/bundle --key release.pub --self-test
    """
    from edgeward.bundle import trusted_keys, verify
    from edgeward.bundle.checking import stated_of
    from edgeward.bundle.layout import Layout
    from edgeward.cli.fitting import fitting_bundle
    from edgeward.kit.errors import Refused

    folder, trust = fitting_bundle(bundle), trusted_keys(keys)
    verified = verify(folder, trust)
    stated = stated_of(Layout(folder), verified.bundle.digest, trust)
    tested, cost = _tested(verified, target) if with_test else (None, None)
    if as_json:
        signers = [{"key": signer.fingerprint, "source": signer.source} for signer in verified.signers]
        facts = {"bundle": verified.bundle, "signers": signers, "file_count": verified.file_count,
                 "statements": sorted(stated)}  # fmt: skip
        console.print_json({**facts, "self_test": tested, "cost": None if cost is None else cost._asdict()})
    else:
        _show(verified, sorted(stated), tested, cost)
    if tested is not None and not tested.passed:
        raise Refused(f"{verified.reference}: misses its self-test: {tested.reason}")


def _tested(verified: "VerifiedBundle", target: str | None) -> "tuple[SelfTestResult, Cost | None]":
    """Its self-test, and what an inference takes where it passed."""
    from edgeward.bundle import cost_of, open_predictor, run_self_test
    from edgeward.measure.naming import target_name

    name, predictor = target or target_name(), open_predictor(verified)
    tested = run_self_test(verified, predictor, target=lambda: name)
    return tested, cost_of(verified, predictor, name) if tested.passed else None


def _show(
    verified: "VerifiedBundle", stated: list[str], tested: "SelfTestResult | None", cost: "Cost | None"
) -> None:  # fmt: skip
    from edgeward.bundle import bom, provenance

    manifest = verified.manifest
    console.say(f"{verified.reference}: {manifest.name} {manifest.version} is whole and signed")
    console.say(f"digest  {verified.bundle.digest}")
    for signer in verified.signers:
        console.say(f"key     {signer.fingerprint}")
        console.say(f"        {signer.source}")
    console.say(f"files   {verified.file_count}, every byte of them")
    known = {
        bom.PREDICATE_TYPE: "a bill of materials (CycloneDX): edgeward show BUNDLE --bom",
        provenance.PREDICATE_TYPE: "where it came from (SLSA): edgeward show BUNDLE --provenance",
    }
    for one in stated:
        console.say(f"states  {known.get(one, one)}")
    if tested is not None and tested.passed:
        console.say(
            f"test    {tested.sample_count} samples in {console.milliseconds(tested.took_s * 1000)}, "
            f"largest error {tested.worst_error:.2g} of {tested.tolerance:g} allowed"
        )
    if cost is not None:
        wanted = "" if cost.wanted_ms is None else f"; measured was {console.milliseconds(cost.wanted_ms)}"
        console.say(f"takes   {console.milliseconds(cost.p50_ms)} an inference (p50){wanted}")
        console.say(f"        {console.size(cost.peak_memory_bytes)} of memory, this whole process")
