"""edgeward demo: the whole line on this machine, on real handwritten digits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH


@click.command()
@click.option("-o", "--output", type=PATH, metavar="DIR", help="Keep everything here; else in a temporary folder.")
@click.option("--digits", type=PATH, metavar="DIR", help="The example's folder; else the one of this installation.")
def command(output: Path | None, digits: Path | None) -> None:
    """The whole line on this machine, on real handwritten digits, in about a minute.

    Runs the same commands that a person types: optimize, pack, sign, verify, run on digits that the model never
    saw, serve, and one real HTTP request.
    """
    from edgeward.kit import files

    source = digits or _example()
    target = output or Path(tempfile.mkdtemp(prefix="edgeward-demo-")) / "demo"
    files.check_output_folder(target, overwrite=False)
    target.mkdir(parents=True, exist_ok=True)
    out, bundle, key = target / "optimized", target / "digits.bundle", target / "demo.key"
    _step("1  optimise: try, run and time every candidate, keep the fastest within one point of accuracy")
    report = _edgeward_json(
        "optimize", str(source / "digits.onnx"), "--data", str(source / "evaluation.npz"),
        "--calibration", str(source / "calibration.npz"), "--preprocess", str(source / "preprocess.toml"),
        "--labels", str(source / "labels.txt"), "--max-drop", "0.01", "-o", str(out),
    )  # fmt: skip
    _step("2  pack, sign with a key of its own, verify with the public half")
    _edgeward("pack", str(out), "-o", str(bundle), "--name", "digits", "--version", "1.0.0")
    _edgeward("sign", str(bundle), "--new-key", str(key))
    public = key.with_suffix(".pub") if key.with_suffix(".pub").exists() else Path(f"{key}.pub")
    _edgeward("verify", str(bundle), "--key", str(public), "--self-test")
    _step("3  run on digits that the model never saw")
    _edgeward("run", str(bundle), "-i", str(source / "unseen"), "--key", str(public))
    _step("4  serve, and ask over HTTP (Open Inference Protocol v2)")
    with _server(bundle, public) as url:
        answer = _ask(url, source / "unseen" / "digit-7.png")
    console.say(f"POST {url}/v2/models/digits/infer with a picture of a 7 → the highest score is that of {answer}")
    _summary(report, answer, target)


def _example() -> Path:
    from edgeward.kit.errors import Unsupported

    for place in (Path(__file__).parents[3] / "examples" / "digits", Path("examples/digits")):
        if (place / "digits.onnx").is_file():
            return place
    raise Unsupported(
        "the example's files are not part of this installation", hint="edgeward demo --digits SOURCE/examples/digits"
    )


def _step(text: str) -> None:
    console.say(f"\n{text}")


def _edgeward(*arguments: str) -> None:
    """Runs one command as a person would; its failure is ours, with its own words already told."""
    console.say(f"$ edgeward {' '.join(arguments)}")
    sys.stdout.flush()
    finished = subprocess.run([sys.executable, "-m", "edgeward", *arguments], check=False)
    _stop_unless_done(finished.returncode, arguments[0])


def _edgeward_json(*arguments: str) -> Any:
    console.say(f"$ edgeward {' '.join(arguments)} --json")
    sys.stdout.flush()
    command = [sys.executable, "-m", "edgeward", *arguments, "--json"]
    finished = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    _stop_unless_done(finished.returncode, arguments[0])
    return json.loads(finished.stdout)


def _stop_unless_done(code: int, verb: str) -> None:
    from edgeward.kit.errors import Failed

    if code != 0:
        raise Failed(f"the demo stopped: edgeward {verb} ended with exit code {code}")


@contextmanager
def _server(bundle: Path, public: Path) -> Iterator[str]:
    """A running `edgeward serve` on a free port; stopped at the end as systemd would."""
    from edgeward.kit.errors import Failed

    command = [sys.executable, "-m", "edgeward", "serve", str(bundle), "--key", str(public), "--port", "0"]
    console.say(f"$ edgeward {' '.join(command[3:])}")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr or ():
            console.say(line.rstrip())
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split("/")[0].strip()
                break
        else:
            raise Failed(f"the demo stopped: edgeward serve ended with exit code {process.wait()}")
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _ask(url: str, picture: Path) -> int:
    """The class with the highest score for `picture`, by one plain HTTP request."""
    from edgeward.infer import read_image

    pixels = read_image(picture, channels=1)
    tensor = {"name": "image", "shape": [1, *pixels.shape], "datatype": "UINT8", "data": pixels.reshape(-1).tolist()}
    request = urllib.request.Request(  # noqa: S310 - our own server on loopback
        f"{url}/v2/models/digits/infer",
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
        scores = json.load(reply)["outputs"][0]["data"]
    return int(max(range(len(scores)), key=scores.__getitem__))


def _summary(report: Any, answer: int, target: Path) -> None:
    base, chosen, metric = report["baseline"], report["chosen"], report["metric"]
    low, high = chosen["quality_drop_ci"]
    rows = (
        ("p50 of one inference", _ms(base), _ms(chosen), f"{chosen['speedup_p50']:.2f}× as fast"),
        (metric, f"{base['quality'][metric]:.4f}", f"{chosen['quality'][metric]:.4f}",
         f"drop {chosen['quality_drop']:+.4f} (95 % {low:+.4f} to {high:+.4f})"),
        ("size of the model", console.size(base["size_bytes"]), console.size(chosen["size_bytes"]),
         f"{chosen['size_bytes'] / base['size_bytes']:.0%} of it"),
        ("over HTTP, a 7 is", "", str(answer), "right" if answer == 7 else "wrong"),
    )  # fmt: skip
    console.say()
    console.table(f"In short: {chosen['recipe']}", ("", "as given", "chosen", ""), rows, right=(1, 2))
    console.say(f"the report to read: {target / 'optimized' / 'report.html'}")


def _ms(trial: Any) -> str:
    return console.milliseconds(trial["latency_ms"]["p50"])
