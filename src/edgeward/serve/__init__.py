"""The inference process: answers requests with verified bundles, and runs pipelines from sources to sinks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeward.serve.batching import Batch
    from edgeward.serve.catalog import check_names
    from edgeward.serve.declared import Declared
    from edgeward.serve.frames import Frames
    from edgeward.serve.http import Application, create_app
    from edgeward.serve.intake import Limits, enough_request_bytes
    from edgeward.serve.local import LocalServer
    from edgeward.serve.models import ServedModel
    from edgeward.serve.pipeline import Counts, Flow, Running
    from edgeward.serve.repository import Repository
    from edgeward.serve.server import STOP_S, Companion, bind, serve, url_of
    from edgeward.serve.watchdog import Watchdog

__all__ = [
    "STOP_S",
    "Application",
    "Batch",
    "Companion",
    "Counts",
    "Declared",
    "Flow",
    "Frames",
    "Limits",
    "LocalServer",
    "Repository",
    "Running",
    "ServedModel",
    "Watchdog",
    "bind",
    "check_names",
    "create_app",
    "enough_request_bytes",
    "serve",
    "url_of",
]

_PLACES = {
    "Application": "http",
    "Batch": "batching",
    "Companion": "server",
    "Counts": "pipeline",
    "Declared": "declared",
    "Flow": "pipeline",
    "Frames": "frames",
    "Limits": "intake",
    "LocalServer": "local",
    "Repository": "repository",
    "Running": "pipeline",
    "STOP_S": "server",
    "ServedModel": "models",
    "Watchdog": "watchdog",
    "bind": "server",
    "check_names": "catalog",
    "create_app": "http",
    "enough_request_bytes": "intake",
    "serve": "server",
    "url_of": "server",
}


def __getattr__(name: str) -> Any:
    """Opens a file of this room for who asks for it: a pipeline over files does not pay for the HTTP server."""
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
