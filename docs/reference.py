"""Writes docs/reference/ from the code: commands, errors, records. `--check` says what is stale and changes nothing."""

import inspect
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import msgspec

from edgeward.cli.main import VERBS
from edgeward.kit.errors import EdgewardError
from edgeward.records.bundle import Manifest
from edgeward.records.candidate import BenchMeasurement, Report
from edgeward.records.profile import ModelProfile
from edgeward.records.target import Machine
from edgeward.records.watch import Frame

FOLDER = Path(__file__).resolve().parent / "reference"
RECORDS = (Manifest, Report, BenchMeasurement, ModelProfile, Machine, Frame)
MADE = "<!-- Made by `make docs`; do not edit. -->\n"
WIDTH = 96


def commands() -> str:
    """Every verb's --help, in the order of `edgeward --help`."""
    parts = [MADE, "# Commands\n", "Every verb takes `--help`. Exit codes are in [errors.md](errors.md).\n"]
    for verb in written_verbs():
        command: click.Command = import_module(f"edgeward.cli.{verb}").command
        name = f"edgeward {verb}"
        context = click.Context(
            command,
            info_name=name,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            help_option_names=["-h", "--help"],
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def written_verbs() -> list[str]:
    return [verb for verb in VERBS if find_spec(f"edgeward.cli.{verb}") is not None]


def errors() -> str:
    """The exit codes and what each asks of the caller."""
    kinds = sorted(EdgewardError.__subclasses__(), key=lambda kind: kind.exit_code)
    rows = [f"| {kind.exit_code} | `{kind.__name__}` | {inspect.getdoc(kind)} |" for kind in kinds]
    return "\n".join(
        [
            MADE,
            "# Errors\n",
            "An error is one sentence on standard error, with the next move after `try:` where there is one.",
            "The exit code says what the caller can do.\n",
            "| exit code | name in the code | what it asks |",
            "|---|---|---|",
            "| 0 | | Nothing: it is done. |",
            *rows,
            "| 130 | | Nothing: you stopped it with Ctrl-C, and nothing half-written was left behind. |",
            "",
            "`EDGEWARD_DEBUG=1` adds the place in the code where the error arose.",
            "",
        ]
    )


def schema() -> dict[str, Any]:
    """One JSON Schema with every record that crosses a machine or a program."""
    _, components = msgspec.json.schema_components(RECORDS, ref_template="#/$defs/{name}")
    for definition in components.values():  # before Python 3.13 a docstring keeps its indentation
        definition["description"] = inspect.cleandoc(definition.get("description", ""))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": components}


def records() -> str:
    """The same as tables, for people."""
    tops = ", ".join(f"[{record.__name__}](#{record.__name__.lower()})" for record in RECORDS)
    parts = [
        MADE,
        "# Records\n",
        f"What is written to files and printed with `--json`: {tops}, and the parts they are made of.",
        "The exact limits are in [records.schema.json](records.schema.json).",
        "A reader ignores fields it does not know.\n",
    ]
    for name, definition in schema()["$defs"].items():
        required = set(definition.get("required", ()))
        rows = [
            f"| `{field}` | {_type(about)} | {'yes' if field in required else 'no'} |"
            for field, about in definition.get("properties", {}).items()
        ]
        about = definition.get("description", "")
        parts.append(
            "\n".join([f"## {name}\n", f"{about}\n", "| field | type | required |", "|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _type(about: Mapping[str, Any]) -> str:
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in about:
        return " or ".join(_type(one) for one in about["anyOf"])
    if "enum" in about:
        return " or ".join(f"`{value}`" for value in about["enum"])
    if about.get("type") == "array":
        if "prefixItems" in about:
            return "(" + ", ".join(_type(one) for one in about["prefixItems"]) + ")"
        return f"list of {_type(about.get('items') or {})}"
    if about.get("type") == "object":
        return f"map to {_type(about.get('additionalProperties') or {})}"
    return str(about.get("format") or about.get("type") or "any")


def pages() -> dict[str, str]:
    """Every generated file, by name."""
    return {
        "commands.md": commands(),
        "errors.md": errors(),
        "records.md": records(),
        "records.schema.json": json.dumps(schema(), indent=2) + "\n",
    }


def faults(folder: Path) -> list[str]:
    """What is wrong with the pages in `folder`, a sentence each."""
    missing = [verb for verb in VERBS if verb not in written_verbs()]
    found = [f"src/edgeward/cli/{verb}.py: the verb {verb!r} is promised and has no file" for verb in missing]
    for name, text in pages().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"docs/reference/{name}: is stale; run `make docs`")
    return found


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        found = faults(FOLDER)
        for fault in found:
            sys.stderr.write(fault + "\n")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
