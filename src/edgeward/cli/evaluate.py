"""edgeward evaluate: the task metric of a model or bundle on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeward.cli import console

if TYPE_CHECKING:
    from edgeward.cli.subject import Subject
    from edgeward.measure.dataset import LoadedSet
    from edgeward.measure.evaluate import Answers
    from edgeward.measure.quality import Metric

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("subject", metavar="X", type=FILE)
@click.option("--data", required=True, type=FILE, help="Samples with labels: .npz, folder, .csv.")
@click.option("--metric", help="top1, top5, f1, auc, mse, mae, rmse; else what the data ask for.")
@click.option("--reference", type=FILE, metavar="Y", help="Also compare with this model or bundle, sample by sample.")
@click.option("--preprocess", type=FILE, metavar="FILE", help="How raw samples become inputs, for a plain model.")
@click.option("--key", "keys", multiple=True, type=FILE, metavar="PUB", help="Trust this public key, and no other.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of an inference.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path,
    data: Path,
    metric: str | None,
    reference: Path | None,
    preprocess: Path | None,
    keys: tuple[Path, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """The task metric of a model or bundle X on a data set, with its 95 % interval.

    \b
    edgeward evaluate out/bundle --data evaluation/
    edgeward evaluate out/bundle --data evaluation/ --reference model.onnx
    """
    from edgeward.cli.subject import subject_at
    from edgeward.measure.dataset import open_dataset
    from edgeward.measure.evaluate import chosen_metric
    from edgeward.measure.quality import metric_named
    from edgeward.measure.statistics import bootstrap_interval

    if metric is not None:
        metric_named(metric)
    judged = subject_at(subject, keys, preprocess)
    loaded = open_dataset(data, judged.inputs, judged.session(1).outputs)
    found = _answers(judged, loaded, metric, threads)
    other = None if reference is None else _answers(subject_at(reference, keys, preprocess), loaded, metric, threads)
    chosen = chosen_metric(metric, found, str(data))
    targets = _targets(chosen, found, other, data)
    low, high = bootstrap_interval(lambda rows: chosen.score(found.outputs[rows], targets[rows]), len(targets), seed=0)
    told: dict[str, Any] = {
        "model": judged.name, "data": str(data), "n": len(loaded), "metric": chosen.name,
        "value": chosen.score(found.outputs, targets), "ci": [low, high],
    }  # fmt: skip
    if other is not None and reference is not None:
        told["reference"] = _compared(chosen, str(reference), other, found, targets)
    if as_json:
        console.print_json(told)
        return
    console.say(f"{judged.name}: {chosen.name} {told['value']:.4f} (95 % {low:.4f} to {high:.4f}, n {len(loaded)})")
    if "reference" in told:
        against = told["reference"]
        ends = f"95 % {against['drop_ci'][0]:+.4f} to {against['drop_ci'][1]:+.4f}"
        console.say(f"{reference}: {chosen.name} {against['value']:.4f}; drop {against['drop']:+.4f} ({ends})")
        console.say(f"answers differ by at most {against['largest_difference']:.4g}")


def _answers(subject: "Subject", loaded: "LoadedSet", metric: str | None, threads: int | None) -> "Answers":
    from edgeward.measure.evaluate import answers

    return answers(subject.predictor_for(loaded, threads), loaded, metric=metric)


def _targets(metric: "Metric", found: "Answers", other: "Answers | None", data: Path) -> Any:
    from edgeward.kit.errors import WrongInput

    if metric.kind == "reference":
        if other is None:
            raise WrongInput(f"{data}: there are no labels, so the answers need something to be compared with",
                             hint="--reference MODEL")  # fmt: skip
        return other.outputs
    return found.targets


def _compared(metric: "Metric", name: str, other: "Answers", found: "Answers", targets: Any) -> dict[str, Any]:
    import numpy as np

    from edgeward.measure.quality import drop

    lost = drop(metric, other.outputs, found.outputs, targets, seed=0)
    return {
        "model": name, "value": metric.score(other.outputs, targets), "drop": lost.value, "drop_ci": lost.interval,
        "largest_difference": float(np.abs(found.outputs.astype(np.float64) - other.outputs).max()),
    }  # fmt: skip
