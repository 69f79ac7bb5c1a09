"""edgeward pack: makes a bundle of a model and what belongs to it."""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import RawSamples
    from edgeward.bundle.assembly import Said
    from edgeward.infer import Sample
    from edgeward.records.candidate import Measurement
    from edgeward.records.model import TensorSpec

    Packing = tuple[Callable[[Path], None], str]
    """What fills the new folder, and where its self-test comes from."""

_SELF_TEST_SAMPLES = 4


@click.command()
@click.argument("source", metavar="MODEL", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="BUNDLE", help="The folder to write; by default NAME.bundle.")
@click.option("--name", help="What the bundle is called; by default like the model's file.")
@click.option("--version", help="Its version; by default 1, or the version it had.")
@click.option("--labels", type=PATH, metavar="FILE", help="Class names, one per line, in the order of the outputs.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="Steps before and after the model, in TOML.")
@click.option("--data", type=PATH, metavar="DATA", help="Take a few samples for the self-test from this data set.")
@click.option("--license", "license_", metavar="SPDX", help="The model's licence, as SPDX writes it: Apache-2.0.")
@click.option(
    "--measured",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="What `edgeward bench --json` told of this model on a device; may be repeated, one file for a target.",
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="TARGET=X",
    help="In the self-test an answer may be off by X on this target; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    source: Path,
    output: Path | None,
    name: str | None,
    version: str | None,
    labels: Path | None,
    preprocess: Path | None,
    data: Path | None,
    license_: str | None,
    measured: tuple[Path, ...],
    tolerances: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a bundle of an ONNX model, or anew of what optimize wrote, under another name or version.

    The bundle is not signed; `edgeward sign` does that. It carries a self-test: a few inputs and the answers
    that the model gives to them here.

    \b
    edgeward pack model.onnx -o digits --labels labels.txt --data evaluation.npz
    edgeward pack out -o digits-2 --version 2
    edgeward pack out -o digits-3 --version 3 --license MIT --measured pi5.json --tolerance raspberry-pi-5=0.02
    """
    from edgeward.bundle import peek
    from edgeward.bundle.assembly import Said
    from edgeward.kit import files
    from edgeward.measure.labels import read_class_names

    _check_words(name, version)
    target = output or Path(f"{name or _slug(source)}.bundle")
    files.check_output_folder(target, overwrite=overwrite)
    said = Said(
        name=name,
        version=version,
        labels=read_class_names(labels) if labels else None,
        license=None if license_ is None else _license(license_),
        tolerances=dict(_tolerance(one) for one in tolerances),
        measurements=tuple(_measurement(one) for one in measured),
    )
    if source.is_dir():
        if preprocess or data:
            option = "--preprocess" if preprocess else "--data"
            raise click.UsageError(f"{source} holds a bundle already; {option} serves a plain model")
        fill, self_test = _again(source, said)
    else:
        if measured or tolerances:
            raise click.UsageError("--measured and --tolerance serve a bundle: edgeward pack BUNDLE -o NEXT …")
        fill, self_test = _plain(source, name or _slug(source), version or "1", said, preprocess, data)
    with files.new_folder(target, overwrite=overwrite) as work:
        fill(work)
    packed = peek(target)
    if as_json:
        facts = {"bundle": str(target), "digest": packed.digest, "name": packed.manifest.name}
        console.print_json({**facts, "version": packed.manifest.version, "self_test": self_test})
        return
    console.say(f"packed {target}: {packed.manifest.name} {packed.manifest.version}, not signed yet")
    console.say(f"digest  {packed.digest}")
    console.say(f"test    {self_test}")
    console.say(f"next: edgeward sign {target}")


def _again(source: Path, said: "Said") -> "Packing":
    """The bundle in `source` anew."""
    from msgspec.structs import replace

    from edgeward.bundle import find_bundle, reassemble
    from edgeward.kit.clock import SystemClock

    origin = find_bundle(source)
    beside = source / "report.json"
    report = beside.read_bytes() if beside.is_file() else None
    made_at = SystemClock().now()

    def fill(work: Path) -> None:
        reassemble(origin, work, made_at, replace(said, report=report))

    return fill, "as it was in the bundle"


def _plain(
    source: Path, name: str, version: str, told: "Said", preprocess: Path | None, data: Path | None
) -> "Packing":
    """A bundle of the model file `source`, which is run here to learn what its self-test must answer."""
    from msgspec.structs import replace

    from edgeward.bundle import Identity, assemble, parts_of_onnx
    from edgeward.infer.preprocess import takes_missing
    from edgeward.kit import codec
    from edgeward.kit.clock import SystemClock
    from edgeward.records.model import PreprocessFile

    said = codec.from_toml(preprocess, PreprocessFile) if preprocess else PreprocessFile(preprocess=())
    parts = parts_of_onnx(
        _model_bytes(source),
        Identity(name, version, SystemClock().now()),
        where=str(source),
        preprocess=said.preprocess,
        postprocess=said.postprocess,
        labels=told.labels or (),
        read_samples=(lambda inputs: _samples(data, inputs, missing=takes_missing(said.preprocess))) if data else None,
        threads=len(os.sched_getaffinity(0)),
    )
    count = len(next(iter(parts.self_test_inputs.values())))
    made = f"{count} samples of {data}" if data else f"{count} drawn samples; real ones test more: --data DATA"

    def fill(work: Path) -> None:
        assemble(work, replace(parts, flow=said.flow, license=told.license))

    return fill, made


def _samples(data: Path, inputs: "Sequence[TensorSpec]", *, missing: bool) -> "RawSamples":
    """A few samples, evenly over the data set, that have one shape."""
    from edgeward.bundle import RawSamples
    from edgeward.measure.dataset import open_dataset

    loaded = open_dataset(data, inputs, missing=missing)
    step = max(1, len(loaded) // _SELF_TEST_SAMPLES)
    found = [loaded[index] for index in range(0, len(loaded), step)][:_SELF_TEST_SAMPLES]
    alike = [sample for sample in found if _shapes(sample) == _shapes(found[0])]
    return RawSamples(loaded.kind, alike, loaded.sample_rate_hz)


def _shapes(sample: "Sample") -> list[tuple[int, ...]]:
    return [array.shape for array in sample.values()]


def _model_bytes(path: Path) -> bytes:
    from edgeward.kit.errors import WrongInput

    if not path.exists():
        raise WrongInput(f"{path}: no such model")
    data = path.read_bytes()
    if not data:
        raise WrongInput(f"{path}: is empty, wanted an ONNX model")
    return data


def _check_words(name: str | None, version: str | None) -> None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", name):
        raise click.UsageError(f"--name {name!r}: wanted lower-case letters, digits, dots and hyphens, at most 63")
    if version is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", version):
        raise click.UsageError(f"--version {version!r}: wanted letters, digits, dots, hyphens and underscores")


def _license(text: str) -> str:
    """As SPDX writes it. Raises WrongInput for what is no such expression."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    from edgeward.kit.errors import WrongInput

    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression as error:
        raise WrongInput(
            f"--license {text}: {error}", hint="--license Apache-2.0, or --license LicenseRef-Ours"
        ) from None


def _tolerance(text: str) -> tuple[str, float]:
    target, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", target) or not 0 < value < math.inf:
        raise click.UsageError(f"--tolerance {text!r}: wanted TARGET=X, such as raspberry-pi-5=0.02")
    return target, value


def _measurement(path: Path) -> "Measurement":
    from edgeward.kit import codec
    from edgeward.kit.errors import WrongInput
    from edgeward.records.candidate import Measurement

    if not path.is_file():
        raise WrongInput(f"{path}: no such measurement", hint="edgeward bench BUNDLE --target HOST --json > FILE")
    return codec.from_json(path.read_bytes(), Measurement, str(path))


def _slug(source: Path) -> str:
    """A name made of the file's name: "My Model_v2.onnx" → "my-model-v2"."""
    stem = source.resolve().name if source.is_dir() else source.stem
    return re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip(".-")[:63] or "model"
