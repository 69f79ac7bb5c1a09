"""Finds the members of a plugin folder. Listing imports nothing; loading imports one file."""

import importlib
import pkgutil
from importlib.util import find_spec
from typing import Any

from edgeward.kit.errors import Unsupported, WrongInput


def names(folder: str) -> tuple[str, ...]:
    """The names people type for the members of `folder`, such as "edgeward.infer.runtimes", sorted.

    A file's name is typed with hyphens for its underscores. Other distributions add members by an entry point in the
    group named like the folder.
    """
    return tuple(sorted(_own(folder) | set(_foreign(folder))))


def load(folder: str, name: str, *, extra: str | None = None) -> Any:
    """The member `name` of `folder`: its `plugin`. Raises WrongInput for an unknown name, and Unsupported
    when a package it needs is missing; `extra` is the extra of edgeward that brings it."""
    is_own = name in _own(folder)
    if not is_own and name not in _foreign(folder):
        kind = folder.rpartition(".")[2]
        raise WrongInput(f"{name!r} is none of our {kind}; there are {', '.join(names(folder))}")
    try:
        module = (
            importlib.import_module(f"{folder}.{name.replace('-', '_')}") if is_own else _foreign(folder)[name].load()
        )
    except ModuleNotFoundError as error:
        hint = f"pip install 'edgeward[{extra}]'" if extra else f"pip install {error.name}"
        raise Unsupported(f"{name} needs the package {error.name!r}, which is not installed", hint=hint) from error
    return module.plugin


def _own(folder: str) -> set[str]:
    spec = find_spec(folder)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return {module.name.replace("_", "-") for module in pkgutil.iter_modules(places)} - {"base"}


def _foreign(folder: str) -> dict[str, Any]:
    from importlib.metadata import entry_points  # 11 ms of a cold start that our own members do not need

    return {entry.name.replace("_", "-"): entry for entry in entry_points(group=folder)}
