"""edgeward.toml: what is said often to a verb, a section for each; a flag and EDGEWARD_VERB_OPTION beat it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeward.kit.errors import WrongInput

NAME = "edgeward.toml"
PIPELINES = "pipeline"


def defaults(path: Path, verb: str, command: click.Command, verbs: Mapping[str, str]) -> dict[str, Any]:
    """The section of `verb`, by click's names. Raises WrongInput with the file, the line and what is allowed there."""
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        sections = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path}: {error}") from None
    for name, section in sections.items():
        if name == PIPELINES:
            continue  # whoever runs one reads them
        if name not in verbs or not isinstance(section, dict):
            at = _line(text, name)
            raise WrongInput(f"{path}:{at}: there is no verb {name!r}; sections are verbs: {', '.join(verbs)}")
    allowed = {name: one for one in command.params for name in _names(one)}
    found = {}
    for key, value in sections.get(verb, {}).items():
        where = f"{path}:{_line(text, key, verb)}: [{verb}] {key}"
        parameter = allowed.get(key.replace("_", "-"))
        if parameter is None:
            raise WrongInput(f"{where}: there is no such option; allowed are {', '.join(sorted(allowed))}")
        found[parameter.name or key] = _checked(where, value, parameter, click.Context(command))
    return found


def _names(parameter: click.Parameter) -> list[str]:
    """What a person writes for it: the long name of an option, the name of an argument."""
    if isinstance(parameter, click.Option):
        return [one.removeprefix("--") for one in parameter.opts if one.startswith("--") and one != "--help"]
    shown = (parameter.metavar or "").rstrip(".").lower()
    return [shown if len(shown) > 1 else parameter.name or ""]


def _checked(where: str, value: Any, parameter: click.Parameter, context: click.Context) -> Any:
    wanted, fits = _kind(parameter)
    many = parameter.multiple or parameter.nargs != 1
    if many and not (isinstance(value, list) and all(fits(one) for one in value)):
        raise WrongInput(f"{where}: wanted a list of {wanted}, got {value!r}")
    if not many and not fits(value):
        raise WrongInput(f"{where}: wanted {wanted}, got {value!r}")
    try:
        parameter.type_cast_value(context, value)
    except click.BadParameter as error:
        raise WrongInput(f"{where}: {error.message}") from None
    return value


def _kind(parameter: click.Parameter) -> tuple[str, Any]:
    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "true or false", lambda value: isinstance(value, bool)
    if isinstance(parameter.type, click.types.IntParamType):
        return "a whole number", lambda value: is_number(value) and isinstance(value, int)
    if isinstance(parameter.type, click.types.FloatParamType):
        return "a number", is_number
    return "text", lambda value: isinstance(value, str)


def _line(text: str, key: str, section: str | None = None) -> int:
    """Where `key` is said, or the head of a section; 1 where it cannot be told."""
    current = None
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\s*\[+\s*\"?([\w-]+)", line):
            current = head.group(1)
            if section is None and current == key:
                return number
        elif current == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 1
