"""edgeward evaluate: the task metric of a model or bundle, and how far it is from a reference."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeward.cli.subject import Subject
    from edgeward.measure.evaluate import Answers
    from edgeward.measure.quality import Metric

_SEED = 20261120


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--data", required=True, type=PATH, metavar="D", help="An .npz, a .csv, a folder of images or WAV files.")
@click.option("--metric", metavar="M", help="top1, f1, auc, mse, r2, map, miou, ... Default: what the labels ask for.")
@click.option("--task", metavar="T", help="detection, segmentation, anomaly, ...: takes its usual metric.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="What a raw sample needs, in TOML; for a plain model.")
@click.option("--reference", type=PATH, metavar="Y", help="A model or bundle to compare with, on the same samples.")
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="D", help="Gate on the drop from the reference.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle says, or 1.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key and no other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path,
    data: Path,
    metric: str | None,
    task: str | None,
    preprocess: Path | None,
    reference: Path | None,
    max_drop: float | None,
    threads: int | None,
    keys: tuple[Path, ...],
    as_json: bool,
) -> None:
    """The task metric of a model file or verified bundle on a data set, with its 95 % interval.

    With --reference also the paired drop, and how far the answers themselves are apart; with --max-drop the exit
    code 3 where the drop is larger, and a word where the samples are too few to tell.

    \b
    edgeward evaluate out/bundle --data evaluation/
    edgeward evaluate out/bundle --data evaluation/ --reference model.onnx
    """
    from edgeward.cli.subject import open_subject, steps_for
    from edgeward.measure.evaluate import chosen_metric
    from edgeward.measure.quality import interval

    metric = _asked_for(metric, task, reference, max_drop)
    paths = [path for path in (subject, reference) if path is not None]
    subjects = [
        open_subject(path, keys, threads=threads, preprocess=steps_for(path, paths, preprocess)) for path in paths
    ]
    mine, name = _answers(subjects[0], data, metric)
    other = _answers(subjects[1], data, metric)[0] if reference else None
    judged = chosen_metric(metric, mine, str(data))
    targets = _targets(judged, mine, other, data)
    found = {
        "metric": judged.name,
        "value": judged.score(mine.outputs, targets),
        "ci": interval(judged, mine.outputs, targets, seed=_SEED),
        "n": len(mine.outputs),
        "data": name,
        "model": str(subject),
        "reference": _compared(str(reference), judged, other.outputs, mine.outputs, targets) if other else None,
    }
    if as_json:
        console.print_json(found)
    else:
        _show(found)
    if max_drop is not None:
        _hold_gate(found, max_drop)


def _asked_for(metric: str | None, task: str | None, reference: Path | None, max_drop: float | None) -> str | None:
    """The name of the metric; None where the data choose."""
    from edgeward.measure.quality import metric_named, metric_of_task

    if metric is not None and task is not None:
        raise click.UsageError("--metric and --task both say what is measured; give one of them")
    if max_drop is not None and reference is None:
        raise click.UsageError("--max-drop is a drop from a reference; add --reference MODEL")
    name = metric_of_task(task) if task is not None else metric
    return name if name is None else metric_named(name).name


def _hold_gate(found: dict[str, Any], max_drop: float) -> None:
    """Says where the samples are too few to tell. Raises GateMissed where the drop is beyond the gate."""
    from edgeward.kit.errors import GateMissed
    from edgeward.measure.statistics import gate_support

    other = found["reference"]
    support = gate_support(other["drop"], other["drop_ci"], found["n"], max_drop=max_drop)
    if support.verdict == "too few samples":
        console.note(support.reason)
    if not other["drop"] <= max_drop:
        raise GateMissed(f"{found['model']}: {found['metric']} drops by {other['drop']:.4f}, the gate is {max_drop:g}")


def _answers(subject: "Subject", data: Path, metric: str | None) -> "tuple[Answers, str]":
    """The answers to the data set at `data`, and its name. Progress goes to a terminal alone."""
    from edgeward.cli.subject import open_data, predictor_for
    from edgeward.measure.evaluate import answers

    loaded = open_data(subject, data)
    predictor = predictor_for(subject, loaded)
    if not sys.stderr.isatty():
        return answers(predictor, loaded, metric=metric), loaded.name
    with console.progress() as bar:

        def told(done: int, total: int) -> None:
            bar.stage(f"{subject.path.name}: {done} of {total}", done / total)

        return answers(predictor, loaded, metric=metric, told=told), loaded.name


def _targets(metric: "Metric", mine: "Answers", other: "Answers | None", data: Path) -> "NDArray[Any]":
    from edgeward.kit.errors import WrongInput

    if metric.kind == "reference":
        if other is None:
            raise WrongInput(
                f"{data}: there are no labels, and {metric.name} compares with a reference",
                hint="add --reference MODEL, or give data with labels",
            )
        return other.outputs
    if mine.targets is None:
        raise WrongInput(f"{data}: {metric.name} needs labels, and there are none")
    return mine.targets


def _compared(
    name: str, metric: "Metric", reference: "NDArray[Any]", mine: "NDArray[Any]", targets: "NDArray[Any]"
) -> dict[str, Any]:
    """The reference's own score, the paired drop from it, and the parity of the answers."""
    import numpy as np

    from edgeward.kit.errors import WrongInput
    from edgeward.measure.quality import METRICS, drop

    if reference.shape != mine.shape:
        raise WrongInput(f"{name}: answers {reference.shape[1:]} per sample, the model {mine.shape[1:]}")
    lost = drop(metric, reference, mine, targets, seed=_SEED)
    are_tensors = metric.kind not in ("boxes", "masks")
    difference = np.abs(mine.astype(np.float64) - reference.astype(np.float64))
    return {
        "model": name,
        "value": metric.score(reference, targets),
        "drop": lost.value,
        "drop_ci": lost.interval,
        "drop_p": lost.p_value,
        "max_difference": float(difference.max()) if are_tensors else None,
        "cosine": METRICS["cosine"].score(mine, reference) if are_tensors else None,
    }


def _show(found: dict[str, Any]) -> None:
    low, high = found["ci"]
    console.say(f"{found['model']} on {found['data']}, {found['n']} samples")
    console.say(f"{found['metric']:<12}  {found['value']:.4g}  (95 % interval {low:.4g} to {high:.4g})")
    if (other := found["reference"]) is None:
        return
    low, high = other["drop_ci"]
    console.say(f"{'reference':<12}  {other['value']:.4g}  {other['model']}")
    console.say(f"{'drop':<12}  {other['drop']:.4g}  (paired, 95 % interval {low:.4g} to {high:.4g})")
    if other["drop_p"] is not None:
        console.say(f"{'chance':<12}  {other['drop_p']:.3g}  that equal models disagree so unevenly (McNemar, exact)")
    if other["max_difference"] is None:
        return
    console.say(f"{'answers':<12}  apart by at most {other['max_difference']:.3g}; cosine {other['cosine']:.6f}")
