"""edgeward run: answers files with a verified bundle."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.infer import Answer, Predictor, Sample
    from edgeward.infer.postprocess import Box, Class
    from edgeward.records.bundle import Manifest
    from edgeward.records.model import TensorSpec


_BOXES_SHOWN = 3


class Item(NamedTuple):
    """One sample to come: what it is called and how it is read."""

    name: str
    read: "Callable[[], Sample]"


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=PATH)
@click.option("-i", "--input", "source", required=True, type=PATH, help="An image, .wav, .npz, or a folder of them.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=PATH,
    metavar="PUB",
    help="Trust this public key and no other; may be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle was measured.")
@click.option("--top", type=click.IntRange(1), metavar="K", help="Name the K best classes.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line and sample.")
def command(
    bundle: Path,
    source: Path,
    keys: tuple[Path, ...],
    threads: int | None,
    top: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Answer files with a verified bundle: with classes, or with boxes in pixels of each image, best first.

    A folder is read with its subfolders, sorted by name. An .npz holds one array per input, samples on the first
    axis. A sample that cannot be read or does not fit is told on standard error; the others are answered, and the
    exit code is then 2.

    \b
    edgeward run out/bundle -i photo.jpg
    edgeward run out/bundle -i evaluation.npz --json
    """
    gc.disable()  # a short command that imports much: collecting garbage meanwhile costs a tenth of its start
    from edgeward.bundle import find_bundle, open_predictor, trusted_keys, verify

    verified = verify(find_bundle(bundle), trusted_keys(keys))
    if top is not None and not _names_classes(verified.manifest):
        raise click.UsageError(f"--top: {bundle} names no classes")
    items = _items(source, verified.manifest)
    line = _json_line if as_json else None
    predictor = open_predictor(verified, threads=threads)
    gc.enable()
    rows, bad = _answer_all(items, predictor, verified, top, limit, line)
    if not as_json and rows:
        _show(verified.manifest, source, rows)
    if bad:
        from edgeward.kit.errors import WrongInput

        raise WrongInput(f"{source}: {bad} of {bad + len(rows)} samples could not be answered; they are named above")


def _names_classes(manifest: "Manifest") -> bool:
    from edgeward.records.model import Classify

    return any(isinstance(step, Classify) for step in manifest.postprocess)


class Row(NamedTuple):
    """What a person sees of one answer: source, answer, score, and its times."""

    source: str
    told: str
    score: str
    pre_ms: float
    infer_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.infer_ms + self.post_ms


def _answer_all(
    items: Iterator[Item],
    predictor: "Predictor",
    verified: "VerifiedBundle",
    top: int | None,
    limit: int | None,
    write: "Callable[[str, Answer, tuple[Class, ...]], None] | None",
) -> tuple[list[Row], int]:
    """A row per sample that was answered, and how many were not."""
    from itertools import islice

    from edgeward.kit.errors import WrongInput, from_os_error

    rows: list[Row] = []
    bad = 0
    for item in islice(items, limit):
        try:
            answer = _answer(item, predictor)
        except (WrongInput, OSError) as error:
            known = from_os_error(error) if isinstance(error, OSError) else error
            console.note(f"edgeward: {known.message}")
            bad += 1
            continue
        classes = answer.classes if top is None else _best(verified.manifest, predictor, answer, top)
        _note_if_not_finite(item.name, answer)
        if write is not None:
            write(item.name, answer, classes)
        rows.append(_row(item.name, answer, classes))
    return rows, bad


def _answer(item: Item, predictor: "Predictor") -> "Answer":
    from edgeward.infer.markers import Frame
    from edgeward.kit.errors import WrongInput

    with Frame():
        sample = item.read()
        try:
            return predictor.answer(sample)
        except WrongInput as error:
            raise WrongInput(f"{item.name}: {error.message}", hint=error.hint) from error


def _best(manifest: "Manifest", predictor: "Predictor", answer: "Answer", top: int) -> "tuple[Class, ...]":
    from msgspec.structs import replace

    from edgeward.infer import classes_of
    from edgeward.records.model import Classify

    steps = tuple(replace(step, top=top) if isinstance(step, Classify) else step for step in manifest.postprocess)
    return classes_of(steps, answer.outputs[predictor.session.outputs[0].name], manifest.labels)


def _items(source: Path, manifest: "Manifest") -> Iterator[Item]:
    """Everything in `source`. Raises WrongInput at once where nothing of it can be answered."""
    from edgeward.kit.errors import WrongInput

    if not source.exists():
        raise WrongInput(f"{source}: no such file or folder")
    if not source.is_dir():
        return _items_of_file(source, manifest)
    suffixes = _suffixes(manifest)
    files = sorted(
        file
        for file in source.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise WrongInput(f"{source}: there is no {manifest.kind} in this folder; wanted {', '.join(sorted(suffixes))}")
    return (item for file in files for item in _items_or_fault(file, manifest))


def _items_or_fault(file: Path, manifest: "Manifest") -> Iterator[Item]:
    """The samples of a file among others; one that fails when it is read, where the file cannot be opened."""
    from edgeward.kit.errors import WrongInput

    try:
        yield from _items_of_file(file, manifest)
    except (WrongInput, OSError) as error:
        yield Item(str(file), _raises(error))


def _raises(error: Exception) -> "Callable[[], Sample]":
    def read() -> "Sample":
        raise error

    return read


def _items_of_file(file: Path, manifest: "Manifest") -> Iterator[Item]:
    from edgeward.kit.errors import WrongInput

    suffix = file.suffix.lower()
    if suffix == ".npz":
        return _items_of_arrays(file, manifest)
    if suffix not in _suffixes(manifest):
        wanted = ", ".join(sorted({*_suffixes(manifest), ".npz"}))
        raise WrongInput(f"{file}: {manifest.name} takes {_words(manifest)}; wanted {wanted}")
    name = manifest.inputs[0].name
    read = _read_image if manifest.kind == "image" else _read_wav
    return iter([Item(str(file), lambda: {name: read(file, manifest)})])


def _suffixes(manifest: "Manifest") -> frozenset[str]:
    from edgeward.infer.samples import IMAGE_SUFFIXES

    return {"image": IMAGE_SUFFIXES, "audio": frozenset({".wav"}), "tensor": frozenset({".npz"})}[manifest.kind]


def _words(manifest: "Manifest") -> str:
    return {"image": "images", "audio": "recordings", "tensor": "arrays"}[manifest.kind]


def _read_image(file: Path, manifest: "Manifest") -> Any:
    from edgeward.infer import read_image

    channels = manifest.inputs[0].shape[-1]
    return read_image(file, channels=channels if isinstance(channels, int) else 3)


def _read_wav(file: Path, manifest: "Manifest") -> Any:
    from edgeward.infer import read_wav
    from edgeward.kit.errors import WrongInput

    wave, rate_hz = read_wav(file)
    wanted_hz = manifest.sample_rate_hz
    if wanted_hz not in (None, rate_hz):
        raise WrongInput(
            f"{file}: sampled at {rate_hz} Hz, {manifest.name} takes {wanted_hz} Hz",
            hint=f"sox {file} -r {wanted_hz} OUT.wav",
        )
    return wave


def _items_of_arrays(file: Path, manifest: "Manifest") -> Iterator[Item]:
    from edgeward.infer import read_npz
    from edgeward.kit.errors import WrongInput

    arrays = read_npz(file)
    columns = {spec.name: _column(file, arrays, spec, alone=len(manifest.inputs) == 1) for spec in manifest.inputs}
    counts = {len(column) for column in columns.values()}
    if len(counts) > 1:
        told = ", ".join(f"{name!r} {len(column)}" for name, column in columns.items())
        raise WrongInput(f"{file}: its arrays have different numbers of samples: {told}")
    if counts == {0}:
        raise WrongInput(f"{file}: there are no samples in it")
    return (
        Item(f"{file}[{index}]", lambda index=index: _finite(file, index, columns))  # type: ignore[misc]
        for index in range(counts.pop())
    )


def _column(file: Path, arrays: dict[str, Any], spec: "TensorSpec", *, alone: bool) -> Any:
    from edgeward.kit.errors import WrongInput

    array = arrays.get(spec.name, arrays.get("x") if alone else None)
    if array is None:
        raise WrongInput(f"{file}: wanted an array {spec.name!r}; it has {', '.join(arrays) or 'none'}")
    fits = array.ndim == len(spec.shape) + 1 and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape[1:], spec.shape, strict=True)
    )
    if not fits:
        wanted, got = ("x".join(map(str, shape)) for shape in (("N", *spec.shape), array.shape))
        raise WrongInput(f"{file}: {spec.name!r} is {got or 'one number'}; wanted {wanted}, samples on the first axis")
    kinds = "US" if spec.dtype == "string" else "fiub"
    if array.dtype.kind not in kinds or (array.dtype.kind == "f" and not spec.dtype.startswith("float")):
        raise WrongInput(f"{file}: {spec.name!r} is {array.dtype}; wanted {spec.dtype}")
    return array


def _finite(file: Path, index: int, columns: dict[str, Any]) -> "Sample":
    import numpy as np

    from edgeward.kit.errors import WrongInput

    sample = {name: column[index] for name, column in columns.items()}
    for name, array in sample.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise WrongInput(f"{file}[{index}]: {name!r} holds a value that is not finite (NaN or infinity)")
    return sample


def _note_if_not_finite(name: str, answer: "Answer") -> None:
    import numpy as np

    for output, value in answer.outputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            console.note(f"edgeward: {name}: the answer {output!r} is not finite (NaN or infinity), null in JSON")


def _json_line(name: str, answer: "Answer", classes: "tuple[Class, ...]") -> None:
    """One line, written at once. JSON has no NaN; the codec makes it null."""
    from edgeward.kit import codec
    from edgeward.kit.clock import SystemClock

    times = {"pre": answer.pre_ms, "infer": answer.infer_ms, "post": answer.post_ms}
    line: dict[str, Any] = {
        "source": name,
        "at": SystemClock().now(),
        "outputs": {output: value.tolist() for output, value in answer.outputs.items()},
        "latency_ms": {stage: round(value, 4) for stage, value in {**times, "total": sum(times.values())}.items()},
    }
    if classes:
        line["classes"] = classes
    if answer.boxes is not None:
        line["boxes"] = answer.boxes
    sys.stdout.buffer.write(codec.to_json(line) + b"\n")
    sys.stdout.buffer.flush()


def _row(name: str, answer: "Answer", classes: "tuple[Class, ...]") -> Row:
    if answer.boxes is not None:
        told, score = _brief_boxes(answer.boxes)
    else:
        told = ", ".join(one.label for one in classes) or _brief(answer)
        score = ", ".join(f"{one.score:.3f}" for one in classes)
    return Row(name, told, score, answer.pre_ms, answer.infer_ms, answer.post_ms)


def _brief_boxes(boxes: "tuple[Box, ...]") -> tuple[str, str]:
    """The first few with their corners in pixels, and their scores."""
    shown = boxes[:_BOXES_SHOWN]
    told = [f"{box.label} {box.x1:.0f},{box.y1:.0f}–{box.x2:.0f},{box.y2:.0f}" for box in shown]
    if more := len(boxes) - len(shown):
        told.append(f"{more} more")
    return ", ".join(told) or "nothing found", ", ".join(f"{box.score:.3f}" for box in shown)


def _brief(answer: "Answer") -> str:
    """The outputs, the first few numbers of each."""
    return "  ".join(f"{name} {_numbers(value.reshape(-1))}" for name, value in answer.outputs.items())


def _numbers(flat: Any) -> str:
    head = ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in flat[:4].tolist())
    return f"[{head}, … {flat.size}]" if flat.size > 4 else f"[{head}]"


def _short(name: str, source: Path) -> str:
    """The name inside `source`; the end of it where it is long, so that the numbers keep their place."""
    inside = name.removeprefix(f"{source}/" if source.is_dir() else f"{source.parent}/")
    return inside if len(inside) <= 32 else f"…{inside[-31:]}"


def _show(manifest: "Manifest", source: Path, rows: list[Row]) -> None:
    import numpy as np

    shown = [
        (
            _short(row.source, source),
            row.told,
            row.score,
            *(f"{ms:.3f}" for ms in (row.pre_ms, row.infer_ms, row.post_ms)),
        )
        for row in rows
    ]
    columns = ("source", "answer", "score", "pre ms", "infer ms", "post ms")
    console.table(f"{manifest.name} {manifest.version}", columns, shown, right=(2, 3, 4, 5))
    p50, p95 = np.quantile([row.total_ms for row in rows], (0.5, 0.95))
    console.say(f"n {len(rows)}, total p50 {console.milliseconds(p50)}, p95 {console.milliseconds(p95)}")
