"""How every verb reads a path."""

import re
from pathlib import Path
from typing import Any

import click


class _Path(click.Path):
    """A path; an empty one (a shell variable that is not set) is wrong input and not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


class Milliseconds(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has no such argument
    """A time such as 10ms, 0.5s or 800us, in milliseconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s)\s*", str(value))
        if found is None or float(found.group(1)) == 0:
            self.fail(f"{value!r} is no time; wanted one such as 10ms or 0.5s", param, ctx)
        return float(found.group(1)) * {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}[found.group(2)]
