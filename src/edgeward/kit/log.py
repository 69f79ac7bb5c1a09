"""One event per line on standard error: a name and fields. Quiet below `EDGEWARD_LOG` (default warning)."""

import os
import sys
from typing import Any

_LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}


def debug(event: str, **fields: Any) -> None:
    _write("debug", event, fields)


def info(event: str, **fields: Any) -> None:
    _write("info", event, fields)


def warning(event: str, **fields: Any) -> None:
    """For a person to act on."""
    _write("warning", event, fields)


def _write(level: str, event: str, fields: dict[str, Any]) -> None:
    if _LEVELS[level] < _LEVELS.get(os.environ.get("EDGEWARD_LOG", "warning"), 2):
        return
    words = [level, event, *(f"{name}={_word(value)}" for name, value in fields.items())]
    sys.stderr.write(" ".join(words) + "\n")


def _word(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(text) if any(character.isspace() for character in text) or not text else text
