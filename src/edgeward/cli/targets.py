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
    from edgeward.measure.naming import target_name
    from edgeward.measure.place import HERE as THIS_MACHINE
    from edgeward.measure.ssh import is_host

    path = Path(target)
    if target in (*HERE, target_name()):
        yield THIS_MACHINE
    elif not ("@" in target and is_host(target)) and (path.exists() or "/" in target or path.suffix == ".toml"):
        yield _profiled(path)
    elif not is_host(target):
        raise WrongInput(
            f"--target: {target!r} is no file and names no machine",
            hint="--target user@host, or a file that edgeward probe --save wrote",
        )
    else:
        from edgeward.measure.remote import RemotePlace

        with RemotePlace(target, told=told) as place:
            yield place


@contextmanager
def measuring_place(target: str, told: Callable[[str], None]) -> "Iterator[Place]":
    """The same for a verb whose times are its answer. Raises Unsupported for a profile, where nothing can run."""
    from edgeward.kit.errors import Unsupported

    with place_of(target, told) as place:
        if place.timing == "forecast":
            raise Unsupported(
                f"--target: {target} is a machine's profile, and nothing runs on a profile",
                hint="--target user@host measures on the machine itself",
            )
        yield place


def _profiled(path: Path) -> "Place":
    from edgeward.kit import codec
    from edgeward.kit.errors import WrongInput
    from edgeward.measure.profiled import place_for
    from edgeward.records.target import Target

    if not path.is_file():
        raise WrongInput(f"--target: {path} is no file", hint=f"edgeward probe --save {path}, on the device")
    return place_for(codec.from_toml(path, Target))
