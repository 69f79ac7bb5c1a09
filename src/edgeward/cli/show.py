"""edgeward show: what a model or bundle is."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.records.bundle import Bundle
    from edgeward.records.model import ModelFacts, TensorSpec


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--for", "machine", metavar="HOST", help="Which variant in X fits HOST, or local.")
@click.option("--bom", "stated", flag_value="bom", help="Its bill of materials, in CycloneDX's JSON.")
@click.option("--provenance", "stated", flag_value="provenance", help="Where it came from, in SLSA's JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(subject: Path, machine: str | None, stated: str | None, as_json: bool) -> None:
    """What a model or bundle X is: inputs, outputs, operators, measurements, signatures.

    --bom and --provenance show what a key that is trusted here stated.

    \b
    edgeward show model.onnx
    edgeward show out/bundle
    edgeward show all --for pi@raspberrypi
    """
    if machine is not None:
        _show_variants(subject, machine, as_json=as_json)
    if stated is not None:
        _show_stated(subject, stated)
        return
    if subject.is_dir() and not (subject / "saved_model.pb").is_file():
        from edgeward.bundle import find_bundle, peek
        from edgeward.bundle.variants import index_in
        from edgeward.kit.errors import WrongInput

        folder = find_bundle(subject)
        if index_in(folder) is not None:
            raise WrongInput(f"{subject}: holds several variants", hint=f"edgeward show {subject} --for local")
        bundle = peek(folder)
        if as_json:
            console.print_json(bundle)
        else:
            _show_bundle(bundle)
        return
    from edgeward.optimize.inspect import describe
    from edgeward.optimize.readers import read_model

    facts = describe(read_model(subject))
    if as_json:
        console.print_json({"model": subject.name, **_fields(facts)})
    else:
        _show_model(subject, facts)


def _show_stated(subject: Path, asked: str) -> None:
    from edgeward.bundle import bom, find_bundle, provenance, trusted_keys, verify
    from edgeward.bundle.checking import stated_of
    from edgeward.bundle.layout import Layout
    from edgeward.kit.errors import Refused

    kind = {"bom": bom, "provenance": provenance}[asked].PREDICATE_TYPE
    folder, trust = find_bundle(subject), trusted_keys(())
    found = stated_of(Layout(folder), verify(folder, trust).bundle.digest, trust)
    if kind not in found:
        raise Refused(f"{folder}: no trusted key states a {kind}", hint=f"edgeward sign {folder}")
    console.print_json(found[kind])


def _show_variants(folder: Path, machine: str, *, as_json: bool) -> NoReturn:
    from edgeward.bundle import find_bundle
    from edgeward.bundle.resolve import judge
    from edgeward.bundle.variants import index_in
    from edgeward.cli.fitting import device_of
    from edgeward.kit.errors import Unsupported, WrongInput

    index = index_in(find_bundle(folder))
    if index is None:
        raise WrongInput(f"{folder}: holds one bundle and no variants", hint=f"edgeward join A B -o {folder}")
    judged = judge(index, device_of(machine))
    if as_json:
        console.print_json({"device": machine, "variants": [one._asdict() for one in judged]})
    else:
        rows = [
            (
                one.runtime, "no" if one.refused else "yes", one.refused or one.why,
                "–" if one.size_bytes is None else console.size(one.size_bytes), f"{one.digest[:19]}…",
            )
            for one in judged
        ]  # fmt: skip
        console.table(f"For {machine}", ("runtime", "fits", "why", "model", "digest"), rows)
    sys.exit(0 if judged and judged[0].refused is None else Unsupported.exit_code)


def _fields(facts: "ModelFacts") -> dict[str, object]:
    from msgspec.structs import asdict

    return asdict(facts)


def _show_model(path: Path, facts: "ModelFacts") -> None:
    console.table(
        str(path), ("", ""),
        (
            ("precision", facts.precision),
            ("parameters", f"{facts.parameter_count:,}"),
            ("multiply-accumulates", "not known" if facts.macs is None else f"{facts.macs:,} a sample"),
            ("size", console.size(facts.size_bytes)),
            ("opset", str(facts.opset)),
            ("producer", facts.producer or "not said"),
        ),
    )  # fmt: skip
    _show_tensors([("input", spec) for spec in facts.inputs] + [("output", spec) for spec in facts.outputs])
    console.table("", ("operator", "count"), [(name, str(n)) for name, n in facts.operators.items()], right=(1,))


def _show_tensors(specs: "list[tuple[str, TensorSpec]]") -> None:
    rows = [(role, spec.name, spec.dtype, " × ".join(map(str, spec.shape)) or "one number") for role, spec in specs]
    console.table("", ("", "name", "type", "shape"), rows)


def _show_bundle(bundle: "Bundle") -> None:
    from msgspec import UNSET

    manifest = bundle.manifest
    rows = [
        ("digest", bundle.digest),
        ("made", f"{manifest.created_at:%Y-%m-%d %H:%M} UTC"),
        ("for", ", ".join(manifest.targets) or "any machine"),
        ("runtime", f"{manifest.runtime} {manifest.runtime_versions}, {manifest.thread_count} thread(s)"),
        ("raw sample", manifest.kind),
        ("steps before the graph", _steps(manifest.preprocess)),
        ("steps inside the graph", _steps(manifest.folded)),
        ("labels", ", ".join(manifest.labels[:12]) + (" …" if len(manifest.labels) > 12 else "") or "none"),
    ]
    if manifest.license is not UNSET:
        rows.append(("licence", manifest.license))
    for measured in manifest.measured():
        latency = measured.latency
        rows.append(
            (f"on {measured.target}", f"p50 {console.milliseconds(latency.p50_ms)}, p99 "
             f"{console.milliseconds(latency.p99_ms)} (n {latency.runs}, {measured.setting.cpu})")
        )  # fmt: skip
        rows += [("", f"{name} {value:.4f}") for name, value in measured.quality.items()]
    signers = ", ".join(signature.key for signature in bundle.signatures) or "nobody"
    rows.append(("signed by", f"{signers} (not judged here: edgeward verify)"))
    console.table(f"{manifest.name} {manifest.version}", ("", ""), rows)
    _show_tensors([("takes", spec) for spec in manifest.inputs] + [("gives", spec) for spec in manifest.model.outputs])
    layers = [(layer.media_type, console.size(layer.size_bytes), layer.digest[:19]) for layer in manifest.layers]
    console.table("", ("layer", "size", "digest"), layers, right=(1,))


def _steps(steps: tuple[object, ...]) -> str:
    from edgeward.kit import codec

    return ", ".join(codec.to_json(step).decode() for step in steps) or "none"
