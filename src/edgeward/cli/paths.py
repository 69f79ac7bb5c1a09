"""How every verb reads a path."""

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
