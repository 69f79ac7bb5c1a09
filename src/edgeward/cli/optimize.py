"""edgeward optimize: makes a model fit this machine, under an accuracy gate."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.optimize.prepare import Order
    from edgeward.records.candidate import Report


@click.command()
@click.argument("model", metavar="MODEL", type=PATH)
@click.option("--data", required=True, type=PATH, metavar="EVAL", help="Samples with labels: .npz, folder, .csv.")
@click.option("--calibration", type=PATH, metavar="CAL", help="Samples for calibration; else a part of EVAL.")
@click.option("--metric", help="top1, f1, auc, mse, r2, map, miou, cosine, ...; else what the data ask for.")
@click.option("--max-drop", type=float, default=0.01, show_default=True, help="The most quality that may be lost.")
@click.option("--budget", default="", metavar="LIMITS", help='Such as "p95<8ms,size<1MB,peak-memory<64MB".')
@click.option(
    "--target", default="", metavar="HOST|FILE", help="user@host: measured there, by ssh. FILE: a saved profile."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of an inference; else measured.")
@click.option("--time-limit", metavar="TIME", help="Such as 90s or 10m; what is not tried by then is left out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--preprocess", type=PATH, metavar="FILE", help="Steps before and after the model, in TOML.")
@click.option("--labels", type=PATH, metavar="FILE", help="Class names, one per line, in the order of the outputs.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224", help="Fixes a free input shape.")
@click.option("--parent", type=PATH, metavar="BUNDLE", help="The deployed version: keep its scales, for small updates.")
@click.option("--overwrite", is_flag=True, help="Replace what stands in the output folder.")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep finished trials (in ~/.cache/edgeward/trials).")
@click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help="The folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
def command(
    model: Path,
    data: Path,
    calibration: Path | None,
    metric: str | None,
    max_drop: float,
    budget: str,
    target: str,
    threads: int | None,
    time_limit: str | None,
    seed: int,
    preprocess: Path | None,
    labels: Path | None,
    shapes: tuple[str, ...],
    parent: Path | None,
    overwrite: bool,
    no_cache: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Make a model fit this machine or another, under an accuracy gate.

    MODEL is .onnx, .tflite or a PyTorch exported program (.pt2). Tries float and int8 candidates in every runtime
    that is installed, times each of them in turn with the model as it is, and keeps the fastest that loses no more
    than --max-drop. Writes DIR/bundle (signed with this machine's own key), DIR/model.onnx or .tflite,
    DIR/report.json and DIR/report.html. Exit code 3 when nothing keeps the limits. Stopped, it goes on where it was
    when it is called again.

    --target user@host[:port] runs every candidate on that device, over your own ssh; it needs Python 3.11 and nothing
    else, and keeps a copy of the runtimes in ~/.cache/edgeward/runner. --target FILE takes a profile that
    `edgeward probe --save` wrote: what that device could run is measured on this machine, so latency and memory are
    forecasts.

    \b
    edgeward optimize model.onnx --data evaluation/ --calibration calibration/ -o out
    edgeward optimize model.onnx --data evaluation/ --target pi@raspberrypi -o out
    """
    from edgeward.cli.targets import place_of
    from edgeward.kit import codec, files
    from edgeward.kit.clock import SystemClock
    from edgeward.measure.labels import read_class_names
    from edgeward.measure.limits import parse_budget
    from edgeward.measure.quality import metric_named
    from edgeward.optimize.memory import cache_folder
    from edgeward.optimize.prepare import Order
    from edgeward.optimize.run import optimize
    from edgeward.records.model import PreprocessFile

    steps = codec.from_toml(preprocess, PreprocessFile) if preprocess else None
    if metric is not None:
        metric_named(metric)
    order = Order(
        model=model, data=data, calibration=calibration, output=output, metric=metric, max_drop=max_drop,
        budget=parse_budget(budget), threads=threads, time_limit_s=_seconds(time_limit), seed=seed,
        preprocess=steps.preprocess if steps else None,
        postprocess=steps.postprocess if steps else (),
        flow=steps.flow if steps else None,
        labels=read_class_names(labels) if labels else (),
        shapes=dict(_shape(text) for text in shapes), overwrite=overwrite,
        command=shlex.join(["edgeward", *sys.argv[1:]]), memory=None if no_cache else cache_folder(),
        parent=_deployed(parent) if parent else None,
    )  # fmt: skip
    files.check_output_folder(output, overwrite=overwrite)
    with (
        console.progress() as shown,
        console.stoppable(shown) as progress,
        place_of(target, lambda text: progress.stage(text, 0.0)) as place,
    ):
        report = optimize(order, SystemClock(), progress, place)
    sign_with_own_key(order.output / "bundle")
    if as_json:
        console.print_json(report)
    else:
        _show(report, order)


def sign_with_own_key(folder: Path) -> None:
    """Signs what this machine made, so that this machine runs it; where there can be no key it stays unsigned."""
    from edgeward import bundle
    from edgeward.kit.errors import EdgewardError

    try:
        key, created = bundle.load_or_create_key()
        bundle.sign(folder, key)
        bundle.attest(folder, key)
    except (EdgewardError, OSError) as error:
        console.note(f"the bundle is not signed: {error}; edgeward sign {folder} --key FILE does it")
        return
    if created:
        console.note(f"made a key to sign with: {bundle.default_key_path()} ({key.fingerprint[:19]}…)")


def _deployed(folder: Path) -> "VerifiedBundle":
    """The version to be replaced: nothing of an unverified bundle is read, not even its scales."""
    from edgeward.bundle import find_bundle, trusted_keys, verify

    return verify(find_bundle(folder), trusted_keys(()))


def _seconds(text: str | None) -> float | None:
    from edgeward.kit.errors import WrongInput

    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text)
    if match is None or float(match[1]) == 0:
        raise WrongInput(f"--time-limit: cannot read {text!r}", hint="--time-limit 90s, or 10m")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    from edgeward.kit.errors import WrongInput

    name, _, dims = text.partition("=")
    if not name or not re.fullmatch(r"\d+(x\d+)*", dims) or "0" in dims.split("x"):
        raise WrongInput(f"--shape: cannot read {text!r}", hint="--shape input=1x3x224x224")
    return name, tuple(int(dim) for dim in dims.split("x"))


def _on_two_lines(report: "Report", *figures: str) -> list[str]:
    """Names of columns that are no wider than their figures."""
    from edgeward.optimize.words import timed

    return [timed(report, figure).replace(" (", "\n(") for figure in figures]


def _show(report: "Report", order: "Order") -> None:
    from edgeward.optimize.report import summary_lines
    from edgeward.optimize.words import forecast_kept, standing, unmeasured

    rows = [
        (
            trial.recipe,
            "–" if not trial.quality else f"{next(iter(trial.quality.values())):.4f}",
            "–" if trial.quality_drop is None else f"{trial.quality_drop:+.3f}",
            console.milliseconds(trial.latency_ms.p50 if trial.latency_ms else None),
            "–" if trial.speedup_p50 is None else f"{trial.speedup_p50:.2f}×",
            console.size(trial.size_bytes),
            standing(report, trial),
        )
        for trial in report.trials
        if trial.failure is None
    ]
    columns = ("recipe", report.metric, "drop", *_on_two_lines(report, "p50", "speed"), "size", "limits")
    console.table(f"{report.model} on {report.target}", columns, rows, right=(1, 2, 3, 4, 5))
    console.say()
    for reason, recipes in unmeasured(report).items():
        console.paragraph(f"{', '.join(recipes)}: {reason}")
    if unmeasured(report):
        console.say()
    for line in filter(None, (*summary_lines(report), forecast_kept(report))):
        console.paragraph(line)
    console.say(f"\nbundle  {order.output}/bundle\nreport  {order.output}/report.html")
