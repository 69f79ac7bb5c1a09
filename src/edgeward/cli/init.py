"""edgeward init: asks a few questions and writes edgeward.toml."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgeward.cli import configuration, console
from edgeward.cli.paths import PATH
from edgeward.kit.errors import WrongInput


class Template(NamedTuple):
    """What a usual job is judged by, and what its data look like."""

    metric: str
    data: str


TEMPLATES = {
    "image": Template("top1", "a folder with one subfolder of images per class, or an .npz"),
    "detector": Template("map", "a folder of images with their boxes"),
    "audio": Template("top1", "a folder with one subfolder of WAV files per class, or an .npz"),
    "sensor": Template("", "a .csv or an .npz with labels"),
}


@click.command()
@click.option("--template", type=click.Choice(list(TEMPLATES)), help="The kind of job.")
@click.option("--model", type=PATH, metavar="FILE", help="The model: .onnx, .tflite, .pt2, ...")
@click.option("--data", type=PATH, metavar="EVAL", help="Samples with labels that it was not trained on.")
@click.option("--target", metavar="HOST|FILE", help="user@host, or a saved profile; else this machine.")
@click.option("--max-drop", type=click.FloatRange(0, 1), help="The most quality that may be lost. Default: 0.01.")
@click.option("-o", "--output", metavar="DIR", default="out", show_default=True, help="Where optimize will write.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; take the defaults.")
@click.option("--overwrite", is_flag=True, help="Replace an edgeward.toml that is there.")
def command(
    template: str | None, model: Path | None, data: Path | None, target: str | None, max_drop: float | None,
    output: str, yes: bool, overwrite: bool,
) -> None:  # fmt: skip
    """Ask a few questions, write edgeward.toml into this folder, and print the commands it stands for.

    \b
    edgeward init
    edgeward init --template image --model model.onnx --data evaluation/ --yes
    """
    path = Path(configuration.NAME)
    if path.exists() and not overwrite:
        raise WrongInput(f"{path}: exists already", hint="edgeward init --overwrite")
    asks = sys.stdin.isatty() and not yes
    kind = template or (_asked("What is it", "image", click.Choice(list(TEMPLATES))) if asks else "image")
    model = _existing(model or (_asked("Model file", None, PATH) if asks else None), "--model")
    data = _existing(data or (_asked(f"Data ({TEMPLATES[kind].data})", None, PATH) if asks else None), "--data")
    if target is None and asks:
        target = _asked("Target, user@host or a profile (empty: this machine)", "", click.STRING)
    if max_drop is None:
        max_drop = _asked("The most quality that may be lost", 0.01, click.FloatRange(0, 1)) if asks else 0.01
    said = {"model": str(model), "data": str(data), "metric": TEMPLATES[kind].metric, "target": target or ""}
    _write(path, {key: value for key, value in said.items() if value} | {"max-drop": max_drop, "output": output})
    _show(said, max_drop, output)


def _asked(question: str, default: Any, kind: Any) -> Any:
    return click.prompt(question, default=default, type=kind, err=True)


def _existing(path: Path | None, flag: str) -> Path:
    if path is None:
        raise WrongInput(f"{flag} is missing, and there is no terminal to ask on", hint=f"edgeward init {flag} …")
    if not path.exists():
        raise WrongInput(f"{path}: no such file or folder", hint=f"ls {shlex.quote(str(path.parent))}")
    return path


def _write(path: Path, optimize: dict[str, Any]) -> None:
    from edgeward.kit import files

    lines = ["# What edgeward is told in this folder; a flag and EDGEWARD_VERB_OPTION beat it.", "", "[optimize]"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in optimize.items()]
    lines += ["", "[evaluate]", f"data = {json.dumps(optimize['data'], ensure_ascii=False)}"]
    files.write_atomic(path, ("\n".join(lines) + "\n").encode())


def _show(said: dict[str, str], max_drop: float, output: str) -> None:
    options = [word for key in ("data", "metric", "target") if said[key] for word in (f"--{key}", said[key])]
    whole = ["edgeward", "optimize", said["model"], *options, "--max-drop", f"{max_drop:g}", "-o", output]
    bundle = f"{output}/bundle"
    console.say(f"wrote {configuration.NAME}\n\nNow, in this folder,")
    console.say(f"  edgeward optimize\nstands for\n  {shlex.join(whole)}\n\nand then")
    console.say(f"  {shlex.join(['edgeward', 'evaluate', bundle])}")
    console.say(f"  {shlex.join(['edgeward', 'bench', bundle])}")
    console.say(f"  {shlex.join(['edgeward', 'serve', bundle])}")
