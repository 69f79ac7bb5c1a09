"""edgeward distill: a small network of a known shape learns what a larger one knows."""

from pathlib import Path

import click
from msgspec import Struct

from edgeward.cli import console
from edgeward.cli.lesson import read_lesson
from edgeward.cli.paths import PATH

STUDENTS = ("mobilenet-v3", "mobilenet-v2", "shufflenet-v2", "ds-cnn")


class Result(Struct, frozen=True):
    """What DIR/distill.json says. Scores are the share right of training samples set aside: the teacher's, and the
    student's after each epoch. `speedup_p50` is in ONNX Runtime, float32, one thread, in one interleaved run."""

    teacher: str
    student: str
    width: float
    macs_before: int
    macs_after: int
    size_bytes_before: int
    size_bytes_after: int
    teacher_score: float
    scores: tuple[float, ...]
    speedup_p50: float
    speedup_p50_ci: tuple[float, float]
    stopped: bool
    seed: int


@click.command()
@click.argument("teacher", metavar="TEACHER", type=PATH)
@click.option("--student", type=click.Choice(STUDENTS), required=True, help="The shape of the small network.")
@click.option("--data", required=True, type=PATH, metavar="TRAIN", help="Samples with class labels to learn from.")
@click.option("--budget", default="", metavar="TEXT", help='Limits of the float student: "p50<0.5ms,size<200KB".')
@click.option("--max-macs", type=click.IntRange(1), metavar="N", help="At most so many multiply-accumulates.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=20, show_default=True, help="Passes over TRAIN.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="How raw samples become inputs ([[preprocess]] in TOML).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace what stands in the output folder.")
@click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print distill.json.")
def command(
    teacher: Path, student: str, data: Path, budget: str, max_macs: int | None, epochs: int, preprocess: Path | None,
    seed: int, overwrite: bool, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a small network to stand in TEACHER's place: same input, same output.

    The widest student within the budget is trained on the labels of TRAIN and the answers of TEACHER. Writes
    DIR/model.onnx (float32) and DIR/distill.json. Needs PyTorch: pip install 'edgeward[train]'. Ctrl-C keeps the best
    epoch so far. A tenth of TRAIN is set aside for the scores here.

    \b
    edgeward distill teacher.onnx --student ds-cnn --data train/ --max-macs 2000000 -o student
    edgeward optimize student/model.onnx --data evaluation/ -o out
    """
    import tempfile

    from edgeward.kit import codec, files
    from edgeward.kit.errors import WrongInput
    from edgeward.measure import bench
    from edgeward.measure.jobs import Contender
    from edgeward.measure.limits import parse_budget

    limits = parse_budget(budget)
    for part in filter(None, budget.split(",")):
        if not part.strip().startswith(("p50", "size")):
            raise WrongInput(f"--budget: {part.strip()!r} is no limit of a student; there are p50 and size")
    files.check_output_folder(output, overwrite=overwrite)
    lesson = read_lesson("distill", teacher, data, preprocess)
    from edgeward.optimize.training.distill import distill
    from edgeward.optimize.training.prune import read_samples

    with console.progress() as progress, files.new_folder(output, overwrite=overwrite) as folder:
        progress.stage("reading the samples", 0.005)
        with tempfile.TemporaryDirectory(prefix="edgeward-") as work:
            learned = read_samples(lesson.model, lesson.samples, lesson.steps, Path(work), seed)
            made = distill(
                lesson.model, str(teacher), learned, student=student, budget=limits, max_macs=max_macs, epochs=epochs,
                seed=seed, progress=progress,
            )  # fmt: skip
            progress.stage("the race with the teacher", 0.96)
            (folder / "model.onnx").write_bytes(made.model.SerializeToString())
            before = Path(work) / "teacher.onnx"
            before.write_bytes(lesson.model.SerializeToString())
            feeds = bench.save_feeds(Path(work) / "feeds.npz", [{lesson.input.name: row} for row in learned.inputs[:8]])
            racers = [Contender(str(file), "onnxruntime", 1, str(feeds)) for file in (before, folder / "model.onnx")]
            times = bench.race(racers, seconds=4, seed=seed)
            ratio = bench.compare(times[0], times[1], seed=seed)
        result = Result(
            teacher=teacher.name, student=student, width=made.width,
            macs_before=lesson.facts.macs or 0, macs_after=made.macs,
            size_bytes_before=len(lesson.model.SerializeToString()),
            size_bytes_after=len(made.model.SerializeToString()),
            teacher_score=round(made.teacher_score, 4), scores=tuple(round(score, 4) for score in made.scores),
            speedup_p50=round(ratio.ratio, 3),
            speedup_p50_ci=(round(ratio.ratio_ci[0], 3), round(ratio.ratio_ci[1], 3)), stopped=made.stopped, seed=seed,
        )  # fmt: skip
        (folder / "distill.json").write_bytes(codec.to_pretty_json(result))
    if as_json:
        console.print_json(result)
        return
    low, high = result.speedup_p50_ci
    rows = [
        ("multiply-accumulates", f"{result.macs_before:,}", f"{result.macs_after:,}"),
        ("bytes", f"{result.size_bytes_before:,}", f"{result.size_bytes_after:,}"),
        ("right, of samples set aside", f"{result.teacher_score:.4f}", f"{max(result.scores):.4f}"),
        ("speed, p50, one thread", "1.00x", f"{result.speedup_p50:.2f}x [{low:.2f}, {high:.2f}]"),
    ]
    console.table(str(output), ["", "teacher", "student"], rows, right=(1, 2))
    console.say(f"next: edgeward optimize {output}/model.onnx --data EVALUATION -o OUT")
