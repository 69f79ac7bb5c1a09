"""The inference process: answers requests with verified bundles."""

from edgeward.serve.http import Application, Limits, check_names, create_app, enough_request_bytes
from edgeward.serve.models import ServedModel
from edgeward.serve.server import STOP_S, bind, serve, url_of

__all__ = [
    "STOP_S",
    "Application",
    "Limits",
    "ServedModel",
    "bind",
    "check_names",
    "create_app",
    "enough_request_bytes",
    "serve",
    "url_of",
]
