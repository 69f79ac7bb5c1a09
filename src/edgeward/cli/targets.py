"""What --target names: this machine, a device over ssh, or the saved profile of one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.measure.place import Place

HERE = ("", "local", "localhost")


@contextmanager
def place_of(target: str, told: Callable[[str], None]) -> "Iterator[Place]":
    """Where candidates for `target` are measured; `told` what is going on while a device is made ready.

    Raises WrongInput for what names nothing, Unavailable for a device that is not reachable, Unsupported for one
    that cannot run models.
    """
    from edgeward.kit.errors import WrongInput
    from edgeward.measure.machine import target_name
    from edgeward.measure.place import HERE as THIS_MACHINE

    if target in (*HERE, target_name()):
        yield THIS_MACHINE
    elif (path := Path(target)).exists() or "/" in target or path.suffix == ".toml":
        yield _profiled(path)
    else:
        from edgeward.measure.remote import RemotePlace
        from edgeward.measure.ssh import is_host

        if not is_host(target):
            raise WrongInput(
                f"--target: {target!r} is no file and names no machine",
                hint="--target user@host, or a file that edgeward probe --save wrote",
            )
        with RemotePlace(target, told=told) as place:
            yield place


def _profiled(path: Path) -> "Place":
    from edgeward.kit import codec
    from edgeward.kit.errors import WrongInput
    from edgeward.measure.profiled import place_for
    from edgeward.records.target import Target

    if not path.is_file():
        raise WrongInput(f"--target: {path} is no file", hint=f"edgeward probe --save {path}, on the device")
    return place_for(codec.from_toml(path, Target))
