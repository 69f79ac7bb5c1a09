"""A benchmark's folder: the result, the machine, a page for people, layers and a trace."""

from pathlib import Path
from typing import Any

import msgspec

from edgeward.kit import codec
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.measure.benching.page import Told, to_html
from edgeward.measure.jobs import Facts
from edgeward.records.base import Digest, Record


class Environment(Record):
    """env.json: what the numbers hang on, and what it takes to run the same again.

    `model` is the path as it was on the machine where the command was typed, `digest` that of its bytes.
    """

    model: str
    digest: Digest
    runtime: str
    runtime_version: str
    threads: int
    seed: int
    command: str
    edgeward_version: str
    machine: Facts
    conditions: str
    inputs: str


def write(folder: Path, told: Told, document: Any, environment: Environment) -> None:
    """Everything but layers and trace, into a folder that appears only when all is written."""
    (folder / "result.json").write_bytes(codec.to_pretty_json(document))
    (folder / "env.json").write_bytes(codec.to_pretty_json(environment))
    (folder / "report.html").write_text(to_html(told), encoding="utf-8")


def is_result(path: Path) -> bool:
    """Whether this is a folder that `bench -o` wrote."""
    return (path / "result.json").is_file() and (path / "env.json").is_file()


def model_of(folder: Path) -> Path:
    """The model file of an earlier result, to be measured again. Raises WrongInput where it is gone or another."""
    try:
        environment = msgspec.json.decode((folder / "env.json").read_bytes(), type=Environment)
    except msgspec.DecodeError as error:
        raise WrongInput(f"{folder}/env.json: {error}") from error
    path = Path(environment.model)
    reason = "numbers from another time are not comparable, so its model is measured again"
    if not path.exists():
        raise WrongInput(
            f"{folder}: {reason}, and {path} is gone", hint="--compare MODEL, with the model file of that result"
        )
    return path


def check_same(folder: Path, digest: str) -> None:
    """Raises WrongInput unless the model is still the one that was measured then."""
    environment = msgspec.json.decode((folder / "env.json").read_bytes(), type=Environment)
    if digest != environment.digest:
        raise WrongInput(
            f"{folder}: {environment.model} is another model now than the one that was measured",
            hint=f"--compare {environment.model}, to compare with what it is now",
        )


def write_layers(folder: Path, profile: Any) -> str | None:
    """layers.csv and trace.json by `profile()`; the reason where this runtime does not tell node times."""
    from edgeward.measure.profiling.chrome_trace import trace_of
    from edgeward.measure.profiling.table import as_csv

    try:
        found = profile()
    except EdgewardError as error:
        return error.message
    (folder / "layers.csv").write_bytes(as_csv(found))
    (folder / "trace.json").write_bytes(msgspec.json.encode(trace_of(found)))
    return None
