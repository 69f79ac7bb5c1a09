"""edgeward show: what a model or bundle is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.records.bundle import Bundle
    from edgeward.records.model import ModelFacts, TensorSpec


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(subject: Path, as_json: bool) -> None:
    """What a model or bundle X is: inputs, outputs, operators, measurements, signatures.

    \b
    edgeward show model.onnx
    edgeward show out/bundle
    """
    if subject.is_dir() and not (subject / "saved_model.pb").is_file():
        from edgeward.bundle import find_bundle, peek

        bundle = peek(find_bundle(subject))
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
    if manifest.measurement is not None:
        latency = manifest.measurement.latency
        rows.append(
            ("measured", f"p50 {console.milliseconds(latency.p50_ms)}, p99 {console.milliseconds(latency.p99_ms)} "
             f"(n {latency.runs}, {manifest.measurement.setting.cpu})")
        )  # fmt: skip
        rows += [(name, f"{value:.4f}") for name, value in manifest.measurement.quality.items()]
    signers = ", ".join(signature.key for signature in bundle.signatures) or "nobody"
    rows.append(("signed by", f"{signers} (not judged here: edgeward verify)"))
    console.table(f"{manifest.name} {manifest.version}", ("", ""), rows)
    _show_tensors([("takes", spec) for spec in manifest.inputs] + [("gives", spec) for spec in manifest.model.outputs])
    layers = [(layer.media_type, console.size(layer.size_bytes), layer.digest[:19]) for layer in manifest.layers]
    console.table("", ("layer", "size", "digest"), layers, right=(1,))


def _steps(steps: tuple[object, ...]) -> str:
    from edgeward.kit import codec

    return ", ".join(codec.to_json(step).decode() for step in steps) or "none"
