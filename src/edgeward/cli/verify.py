"""edgeward verify: checks a bundle, every byte of it, and who signed it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import SelfTestResult, VerifiedBundle


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--key", "keys", type=PATH, multiple=True, metavar="PUB",
    help="Trust this public key (PEM) and no other; may be repeated.",
)  # fmt: skip
@click.option("--self-test", "with_test", is_flag=True, help="Also run it here, and compare its answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(bundle: Path, keys: tuple[Path, ...], with_test: bool, as_json: bool) -> None:
    """Check a bundle: every byte, and who signed it. Exit code 6 says that it is refused, and why.

    Trusted are the keys given with --key, else those in EDGEWARD_TRUSTED_KEYS, else your own key and every
    .pub file in ~/.config/edgeward/trusted.

    \b
    edgeward verify out/bundle
    edgeward verify out/bundle --key release.pub --self-test
    """
    from edgeward.bundle import find_bundle, open_predictor, run_self_test, trusted_keys, verify
    from edgeward.kit.errors import Refused

    verified = verify(find_bundle(bundle), trusted_keys(keys))
    tested = run_self_test(verified, open_predictor(verified)) if with_test else None
    if as_json:
        signers = [{"key": signer.fingerprint, "source": signer.source} for signer in verified.signers]
        facts = {"bundle": verified.bundle, "signers": signers, "file_count": verified.file_count}
        console.print_json({**facts, "self_test": tested})
    else:
        _show(verified, tested)
    if tested is not None and not tested.passed:
        raise Refused(f"{verified.reference}: misses its self-test: {tested.reason}")


def _show(verified: "VerifiedBundle", tested: "SelfTestResult | None") -> None:
    manifest = verified.manifest
    console.say(f"{verified.reference}: {manifest.name} {manifest.version} is whole and signed")
    console.say(f"digest  {verified.bundle.digest}")
    for signer in verified.signers:
        console.say(f"key     {signer.fingerprint}")
        console.say(f"        {signer.source}")
    console.say(f"files   {verified.file_count}, every byte of them")
    if tested is not None and tested.passed:
        console.say(
            f"test    {tested.sample_count} samples in {console.milliseconds(tested.took_s * 1000)}, "
            f"largest error {tested.worst_error:.2g} of {tested.tolerance:g} allowed"
        )
