"""edgeward prune: fewer channels in every layer, and a short training after it."""

from pathlib import Path

import click
from msgspec import Struct

from edgeward.cli import console
from edgeward.cli.lesson import read_lesson
from edgeward.cli.paths import PATH


class Result(Struct, frozen=True):
    """What DIR/prune.json says. `scores` are of training samples set aside: of the model as it was, of the smaller one
    before training, and after each epoch."""

    model: str
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    scores: tuple[float, ...]
    epochs: int
    seed: int


@click.command()
@click.argument("model", metavar="MODEL", type=PATH)
@click.option("--data", required=True, type=PATH, metavar="TRAIN", help="Samples with class labels to learn from.")
@click.option(
    "--keep",
    type=click.FloatRange(0.05, 0.95),
    default=0.5,
    show_default=True,
    help="The share of multiply-accumulates that stays.",
)
@click.option("--epochs", type=click.IntRange(0, 1000), default=2, show_default=True, help="Passes over TRAIN.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="How raw samples become inputs ([[preprocess]] in TOML).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace what stands in the output folder.")
@click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print prune.json.")
def command(
    model: Path,
    data: Path,
    keep: float,
    epochs: int,
    preprocess: Path | None,
    seed: int,
    overwrite: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Make a classifier smaller in shape: whole channels leave, the rest learns again from TRAIN and from MODEL.

    The least worthy channels of each layer go, wherever an addition or a depthwise layer ties them together. Writes
    DIR/model.onnx (float32) and DIR/prune.json. Needs PyTorch: pip install 'edgeward[train]'. What the smaller model
    is worth, edgeward optimize says; a tenth of TRAIN is set aside for the scores here.

    \b
    edgeward prune model.onnx --data train/ --keep 0.5 -o pruned
    edgeward optimize pruned/model.onnx --data evaluation/ -o out
    """
    import tempfile

    from edgeward.kit import codec, files
    from edgeward.optimize.inspect import describe

    files.check_output_folder(output, overwrite=overwrite)
    lesson = read_lesson("prune", model, data, preprocess)
    from edgeward.optimize.training.prune import prune, read_samples

    with console.progress() as progress, files.new_folder(output, overwrite=overwrite) as folder:
        progress.stage("reading the samples", 0.01)
        with tempfile.TemporaryDirectory(prefix="edgeward-") as work:
            learned = read_samples(lesson.model, lesson.samples, lesson.steps, Path(work), seed)
        pruned = prune(lesson.model, str(model), learned, keep=keep, epochs=epochs, seed=seed, progress=progress)
        (folder / "model.onnx").write_bytes(pruned.model.SerializeToString())
        result = Result(
            model=model.name, macs_before=pruned.macs[0], macs_after=pruned.macs[1],
            parameters_before=lesson.facts.parameter_count, parameters_after=describe(pruned.model).parameter_count,
            scores=tuple(round(score, 4) for score in pruned.scores), epochs=epochs, seed=seed,
        )  # fmt: skip
        (folder / "prune.json").write_bytes(codec.to_pretty_json(result))
    if as_json:
        console.print_json(result)
        return
    after = max(result.scores[2:], default=result.scores[1])
    rows = [
        ("multiply-accumulates", f"{result.macs_before:,}", f"{result.macs_after:,}"),
        ("parameters", f"{result.parameters_before:,}", f"{result.parameters_after:,}"),
        ("right, of samples set aside", f"{result.scores[0]:.4f}", f"{after:.4f}"),
    ]
    console.table(str(output), ["", "before", "after"], rows, right=(1, 2))
    console.say(f"next: edgeward optimize {output}/model.onnx --data EVALUATION -o OUT")
