"""edgeward qat: a short training that teaches a model to keep its answers when it is quantised."""

from pathlib import Path

import click
from msgspec import Struct

from edgeward.cli import console
from edgeward.cli.lesson import read_lesson
from edgeward.cli.paths import PATH

_MEASURES = {
    "top1": "right, of samples set aside",
    "agreement": "answered as by the float model, of samples set aside",
    "sqnr_db": "dB above the noise of rounding, on samples set aside",
}


class Result(Struct, frozen=True):
    """What DIR/qat.json says. Scores are of training samples set aside: of the model as given in float (None where
    `measure` is sqnr_db, of which it is the reference), and of the rounded one before training and after each epoch."""

    model: str
    measure: str
    float_score: float | None
    scores: tuple[float, ...]
    weight_bits: int
    per_channel: bool
    epochs: int
    stopped: bool
    seed: int


@click.command()
@click.argument("model", metavar="MODEL", type=PATH)
@click.option("--data", required=True, type=PATH, metavar="TRAIN", help="Samples to learn from; labels help.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=2, show_default=True, help="Passes over TRAIN.")
@click.option("--weight-bits", type=click.IntRange(2, 8), default=8, show_default=True, help="What weights get.")
@click.option("--per-tensor", is_flag=True, help="One scale for all weights of a layer, not one for each channel.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="How raw samples become inputs ([[preprocess]] in TOML).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace what stands in the output folder.")
@click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print qat.json.")
def command(
    model: Path, data: Path, epochs: int, weight_bits: int, per_tensor: bool, preprocess: Path | None, seed: int,
    overwrite: bool, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Quantisation-aware training: MODEL learns to keep its answers with rounded weights and activations.

    Its teacher is MODEL itself in float; labels of TRAIN help. Writes DIR/model.onnx, in float32, whose weights
    survive quantising, and DIR/qat.json. Needs PyTorch: pip install 'edgeward[train]'. Ctrl-C keeps the best epoch so
    far; the same command on DIR/model.onnx trains on from there. A tenth of TRAIN is set aside for the scores here.

    \b
    edgeward qat model.onnx --data train/ -o trained
    edgeward optimize trained/model.onnx --data evaluation/ -o out
    """
    import tempfile

    from edgeward.kit import codec, files

    files.check_output_folder(output, overwrite=overwrite)
    lesson = read_lesson("qat", model, data, preprocess)
    from edgeward.optimize.training.qat import Rounding, harden, read_samples

    with console.progress() as progress, files.new_folder(output, overwrite=overwrite) as folder:
        progress.stage("reading the samples", 0.01)
        with tempfile.TemporaryDirectory(prefix="edgeward-") as work:
            learned = read_samples(lesson.model, lesson.samples, lesson.steps, Path(work), seed)
        rounding = Rounding(weight_bits, per_channel=not per_tensor)
        made = harden(lesson.model, str(model), learned, rounding, epochs=epochs, seed=seed, progress=progress)
        (folder / "model.onnx").write_bytes(made.model.SerializeToString())
        result = Result(
            model=model.name, measure=made.measure, float_score=made.float_score,
            scores=tuple(round(score, 4) for score in made.scores), weight_bits=weight_bits,
            per_channel=not per_tensor, epochs=len(made.scores) - 1, stopped=made.stopped, seed=seed,
        )  # fmt: skip
        (folder / "qat.json").write_bytes(codec.to_pretty_json(result))
    if as_json:
        console.print_json(result)
        return
    rows = [
        ("in float, as given", "–" if result.float_score is None else f"{result.float_score:.4f}"),
        (f"rounded, {weight_bits}-bit weights", f"{result.scores[0]:.4f}"),
        ("rounded, after training", f"{max(result.scores):.4f}"),
    ]
    console.table(str(output), ["", _MEASURES[result.measure]], rows, right=(1,))
    console.say(f"next: edgeward optimize {output}/model.onnx --data EVALUATION -o OUT")
