"""Finds the members of a plugin folder. Listing imports nothing; loading imports one file."""

import importlib
import pkgutil
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from edgeward.kit.errors import Unsupported, WrongInput


def names(folder: str) -> tuple[str, ...]:
    """The names people type for the members of `folder`, such as "edgeward.infer.runtimes", sorted.

    Other distributions add members by an entry point in the group named like the folder.
    """
    spec = find_spec(folder)
    places = list(spec.submodule_search_locations or ()) if spec else []
    own = {module.name for module in pkgutil.iter_modules(places)} - {"base"}
    return tuple(sorted(own | {entry.name for entry in entry_points(group=folder)}))


def load(folder: str, name: str, *, extra: str | None = None) -> Any:
    """The member `name` of `folder`: its `plugin`. Raises WrongInput for an unknown name, and Unsupported
    when a package it needs is missing; `extra` is the extra of edgeward that brings it."""
    if name not in names(folder):
        kind = folder.rpartition(".")[2]
        raise WrongInput(f"{name!r} is none of our {kind}; there are {', '.join(names(folder))}")
    foreign = {entry.name: entry for entry in entry_points(group=folder)}
    try:
        module = foreign[name].load() if name in foreign else importlib.import_module(f"{folder}.{name}")
    except ModuleNotFoundError as error:
        hint = f"pip install 'edgeward[{extra}]'" if extra else f"pip install {error.name}"
        raise Unsupported(f"{name} needs the package {error.name!r}, which is not installed", hint=hint) from error
    return module.plugin
