"""edgeward run: answers files with a verified bundle."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeward.cli import console

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.infer import Answer, Sample
    from edgeward.records.bundle import Manifest

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=FILE)
@click.option("-i", "--input", "source", required=True, type=FILE, help="An image, a WAV file, an .npz, or a folder.")
@click.option("--key", "keys", multiple=True, type=FILE, metavar="PUB", help="Trust this public key, and no other.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of an inference; else as measured.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per sample.")
def command(
    bundle: Path, source: Path, keys: tuple[Path, ...], threads: int | None, limit: int | None, as_json: bool
) -> None:
    """Answer files with a verified bundle.

    An unreadable file among good ones is told on standard error, and the exit code is then 2.

    \b
    edgeward run out/bundle -i photo.jpg
    edgeward run out/bundle -i evaluation.npz --json
    """
    from edgeward.bundle import find_bundle, open_predictor, trusted_keys, verify
    from edgeward.kit.errors import WrongInput

    verified = verify(find_bundle(bundle), trusted_keys(keys))
    predictor = open_predictor(verified, threads=threads)
    unreadable: list[WrongInput] = []
    answered: list[tuple[str, Answer]] = []
    for name, sample in _samples(source, verified, unreadable):
        try:
            answer = predictor.answer(sample)
        except WrongInput as error:
            raise WrongInput(f"{name}: {error.message}", hint=error.hint) from error
        if as_json:
            _print_line(name, answer)
        answered.append((name, answer))
        if limit is not None and len(answered) >= limit:
            break
    if not as_json and answered:
        _show(verified.manifest, answered)
    for fault in unreadable:
        console.note(f"edgeward: {fault.message}")
    if unreadable:
        raise WrongInput(f"{len(unreadable)} of {len(unreadable) + len(answered)} files could not be read")


def _samples(source: Path, verified: "VerifiedBundle", unreadable: list[Any]) -> "Iterator[tuple[str, Sample]]":
    """Name and raw sample of everything in `source`."""
    from edgeward.kit.errors import WrongInput

    if not source.exists():
        raise WrongInput(f"{source}: no such file or folder")
    if source.suffix.lower() == ".npz":
        yield from _arrays(source, verified.manifest)
        return
    files = [source]
    if source.is_dir():
        suffixes = _suffixes(verified.manifest)
        files = sorted(file for file in source.rglob("*") if file.suffix.lower() in suffixes)
        if not files:
            raise WrongInput(f"{source}: there is nothing in it that this bundle takes ({', '.join(sorted(suffixes))})")
    for file in files:
        try:
            yield str(file), _read(file, verified.manifest)
        except WrongInput as error:
            if len(files) == 1:
                raise
            unreadable.append(error)


def _suffixes(manifest: "Manifest") -> frozenset[str]:
    from edgeward.infer.samples import IMAGE_SUFFIXES

    return {"image": IMAGE_SUFFIXES, "audio": frozenset({".wav"}), "tensor": frozenset({".npz"})}[manifest.kind]


def _read(file: Path, manifest: "Manifest") -> "Sample":
    from edgeward.infer import read_image, read_npz, read_wav
    from edgeward.kit.errors import WrongInput

    spec = manifest.inputs[0]
    if manifest.kind == "image":
        channels = spec.shape[-1]
        return {spec.name: read_image(file, channels=channels if isinstance(channels, int) else 3)}
    if manifest.kind == "audio":
        wave, rate = read_wav(file)
        if manifest.sample_rate_hz not in (None, rate):
            raise WrongInput(f"{file}: sampled at {rate} Hz, the bundle takes {manifest.sample_rate_hz} Hz")
        return {spec.name: wave}
    if file.suffix.lower() != ".npz":
        raise WrongInput(f"{file}: this bundle takes arrays, wanted an .npz with {spec.name!r}")
    return next(iter(_arrays_of(file, read_npz(file), manifest)))[1]


def _arrays(source: Path, manifest: "Manifest") -> "Iterator[tuple[str, Sample]]":
    from edgeward.infer import read_npz

    yield from _arrays_of(source, read_npz(source), manifest)


def _arrays_of(source: Path, arrays: dict[str, Any], manifest: "Manifest") -> "Iterator[tuple[str, Sample]]":
    import numpy as np

    from edgeward.kit.errors import WrongInput

    columns = {}
    for spec in manifest.inputs:
        column = arrays.get(spec.name, arrays.get("x") if len(manifest.inputs) == 1 else None)
        if column is None:
            raise WrongInput(f"{source}: the bundle takes {spec.name!r}, the file has {', '.join(arrays) or 'nothing'}")
        if column.ndim != len(spec.shape) + 1:
            wanted = "x".join(map(str, ("samples", *spec.shape)))
            raise WrongInput(f"{source}: {spec.name!r} has {column.ndim} dimensions, wanted {wanted}")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise WrongInput(f"{source}: {spec.name!r} holds a value that is not finite (NaN or infinity)")
        columns[spec.name] = column
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1 or 0 in counts:
        raise WrongInput(f"{source}: wanted the same number of samples, at least one, in each array")
    for index in range(counts.pop()):
        yield f"{source}[{index}]", {name: column[index] for name, column in columns.items()}


def _print_line(name: str, answer: "Answer") -> None:
    from edgeward.kit import codec
    from edgeward.kit.clock import SystemClock

    total = answer.pre_ms + answer.infer_ms + answer.post_ms
    line = {
        "source": name,
        "at": SystemClock().now(),
        "outputs": {key: _listed(value) for key, value in answer.outputs.items()},
        "classes": answer.classes,
        "latency_ms": {
            "pre": round(answer.pre_ms, 4),
            "infer": round(answer.infer_ms, 4),
            "post": round(answer.post_ms, 4),
            "total": round(total, 4),
        },
    }
    sys.stdout.buffer.write(codec.to_json(line) + b"\n")
    sys.stdout.buffer.flush()


def _listed(value: Any) -> Any:
    """Nested lists; JSON has no NaN or infinity, msgspec writes them as null."""
    return value.tolist()


def _show(manifest: "Manifest", answered: "list[tuple[str, Answer]]") -> None:
    rows = []
    for name, answer in answered:
        if answer.classes:
            told = f"{answer.classes[0].label} ({answer.classes[0].score:.3f})"
        else:
            told = ", ".join(f"{key} {_brief(value)}" for key, value in answer.outputs.items())
        times = (answer.pre_ms, answer.infer_ms, answer.post_ms)
        rows.append((name, told, *(f"{1000 * value:.0f}" for value in times)))
    console.table(
        f"{manifest.name} {manifest.version}", ("source", "answer", "pre µs", "infer µs", "post µs"), rows,
        right=(2, 3, 4),
    )  # fmt: skip
    totals = sorted(answer.pre_ms + answer.infer_ms + answer.post_ms for _, answer in answered)
    p50, p95 = totals[len(totals) // 2], totals[min(len(totals) - 1, round(len(totals) * 0.95))]
    console.say(f"n {len(totals)}, p50 {console.milliseconds(p50)}, p95 {console.milliseconds(p95)}")


def _brief(value: Any) -> str:
    flat = value.reshape(-1)
    head = ", ".join(f"{number:.4g}" for number in flat[:4].tolist())
    return f"[{head}{', …' if flat.size > 4 else ''}]"
