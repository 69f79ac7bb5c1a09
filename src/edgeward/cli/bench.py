"""edgeward bench: what a model costs on this machine, or which of two is faster."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH, Milliseconds

if TYPE_CHECKING:
    from edgeward.cli.bench_parts import Parts

SEED = 20261120
_SCENARIOS = ("single-stream", "multi-stream", "server", "offline")


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--compare", type=PATH, metavar="BASE", help="A model, bundle or earlier result, timed in turn with X.")
@click.option("--fail-if", metavar="RULE", help="Exit code 3 when X is so much worse than BASE: 'p99>+5%@95%'.")
@click.option("--scenario", type=click.Choice(_SCENARIOS), help="One of MLPerf Inference's, by its method.")
@click.option("--latency-bound", type=Milliseconds(), default="10ms", show_default=True, help="Of --scenario server.")
@click.option("--quick", is_flag=True, help="A scenario for a few seconds, not the ten minutes that MLPerf wants.")
@click.option("--sweep", is_flag=True, help="Also threads × streams, and the best setting.")
@click.option("--steady", is_flag=True, help="Also a run until latency and temperature rest.")
@click.option("--cap", type=click.FloatRange(0.05, 240), default=15.0, show_default=True, help="Minutes of --steady.")
@click.option("--data", type=PATH, metavar="D", help="Feed real samples; without it, seeded random numbers.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="What a raw sample needs, in TOML; for a plain model.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle says, or 1.")
@click.option("--seconds", type=click.FloatRange(0.1, 120), help="Of timing, per model. Default: 3; compared, 1.5.")
@click.option("--energy", is_flag=True, help="Also the energy of one inference, where the machine has a meter.")
@click.option("--target", default="", metavar="HOST", help="Measure on user@host over ssh; default: this machine.")
@click.option("-o", "output", type=PATH, metavar="DIR", help="Write report.html, result.json, layers.csv, trace.json.")
@click.option("--overwrite", is_flag=True, help="Replace what is in DIR.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key and no other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path, compare: Path | None, fail_if: str | None, scenario: str | None, latency_bound: float,
    quick: bool, sweep: bool, steady: bool, cap: float, energy: bool, data: Path | None, preprocess: Path | None,
    threads: int | None, seconds: float | None, target: str, output: Path | None, overwrite: bool,
    keys: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Latency, throughput and memory of a model file or verified bundle, one sample at a time.

    Measures the model alone, in processes of its own: the steps around it are not in the numbers. Load, first run
    and memory are medians of fresh processes. With --compare both take turns in several generations of fresh
    processes, and each ratio has its 95 % interval over the generations.

    \b
    edgeward bench model.onnx -o result/
    edgeward bench new.onnx --compare old.onnx --fail-if "p99>+5%@95%,memory>+10%"
    edgeward bench model.onnx --scenario server --latency-bound 10ms --quick
    edgeward bench out/bundle --target pi@raspberrypi
    """
    from contextlib import ExitStack

    from edgeward.cli import bench_parts
    from edgeward.cli.bench_words import end_with, show
    from edgeward.kit import files

    parts = bench_parts.Parts(scenario, latency_bound, quick, sweep, steady, 60 * cap, seconds, SEED, energy)
    _check(compare, fail_if, parts, target)
    rules = bench_parts.rules_of(fail_if)
    with ExitStack() as stack:
        folder = None if output is None else stack.enter_context(files.new_folder(output, overwrite=overwrite))
        where = bench_parts.Where(data, preprocess, threads, target, keys)
        told = bench_parts.measured([subject] if compare is None else [subject, compare], where, parts, rules,
                                    folder, quiet=as_json)  # fmt: skip
    if as_json:
        console.print_json(bench_parts.document(told))
    else:
        show(told, output)
    end_with(told.outcome)


def _check(compare: Path | None, fail_if: str | None, parts: "Parts", target: str) -> None:
    from edgeward.kit.errors import Unsupported, WrongInput

    extras = [name for name, given in (("--scenario", parts.scenario), ("--sweep", parts.sweep),
                                       ("--steady", parts.steady), ("--energy", parts.energy)) if given]  # fmt: skip
    if fail_if is not None and compare is None:
        raise WrongInput("--fail-if needs something to compare with", hint="add --compare BASE")
    if compare is not None and extras:
        raise WrongInput(f"--compare and {extras[0]} do not go together", hint="run them one after the other")
    if target and extras:
        raise Unsupported(f"{extras[0]} measures on this machine alone", hint=f"run it on {target} itself")
    if parts.quick and parts.scenario is None:
        raise WrongInput("--quick goes with --scenario", hint=f"--scenario {_SCENARIOS[0]} --quick")
