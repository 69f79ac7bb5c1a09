"""edgeward deploy --pipeline: a pipeline of edgeward.toml as a service of this machine."""

import json
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgeward.cli import configuration, console

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.bundle.needs import Reach
    from edgeward.bundle.packers import PackedFile, Service
    from edgeward.serve import Declared


class Planned(NamedTuple):
    """A pipeline that was found, its bundles verified and its files packed; nothing is changed yet. `reads` are what
    the service's own user must be able to read, `writes` the folders of others that it must be able to write."""

    name: str
    folders: tuple[Path, ...]
    bundles: "tuple[VerifiedBundle, ...]"
    keys: tuple[Path, ...]
    service: "Service"
    packed: "tuple[PackedFile, ...]"
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def plan(name: str, form: str, threads: int | None, keys: Sequence[Path]) -> Planned:
    """Raises WrongInput for a pipeline that is none, or that ends by itself."""
    from edgeward.bundle import find_bundle, packers, trusted_keys, verify
    from edgeward.bundle.store import Store
    from edgeward.kit import systemctl
    from edgeward.kit.errors import WrongInput
    from edgeward.serve import declared

    file = Path(configuration.NAME)
    if not file.is_file():
        raise WrongInput(f"there is no {configuration.NAME} here that declares a pipeline")
    found = declared.read(file, name)
    said = found.pipeline
    if found.source.member.pace(found.source.options) == "on demand":
        raise WrongInput(f"pipeline {name!r}: its source ends with its last sample, and a service does not")
    trusted = tuple(keys) or tuple(map(Path, said.keys))
    folders = tuple(find_bundle(Path(one)) for one in (said.bundle, *((said.cascade.bundle,) if said.cascade else ())))
    bundles = tuple(verify(folder, trusted_keys(trusted)) for folder in folders)
    store = Store()
    places = [str(store.link_of(name)), *(str(store.folder_of(one.bundle.digest)) for one in bundles[1:])]
    table, reach, reads = _for_service(found, places)
    duty = packers.Duty(name, _toml(table).encode(), bundles[1] if len(bundles) > 1 else None, reach)
    count = threads or said.threads
    service = packers.Service(sys.executable, places[0], threads=count, systemd=systemctl.version() or 252, duty=duty)
    packed = packers.load(form).pack(bundles[0], service)
    return Planned(name, folders, bundles, trusted, service, packed, reads, reach.writes)


def install(planned: Planned, *, as_json: bool) -> None:
    from edgeward.bundle import trusted_keys
    from edgeward.bundle.needs import needs_of
    from edgeward.bundle.packers.systemd import unit_of
    from edgeward.bundle.store import Store
    from edgeward.cli import deployment
    from edgeward.kit import systemctl

    systemctl.check()
    deployment.check_root()
    deployment.check_python(planned.service.python)
    _check_places(planned)
    store, name, unit = Store(), planned.name, unit_of(planned.name)
    deployment.check_kind(name, runs=True)
    limit_s = sum(needs_of(one.manifest, planned.service.threads).start_s for one in planned.bundles) + 120
    with store.locked():
        digests = [store.put(folder, trusted_keys(planned.keys)) for folder in planned.folders]
        second = digests[1] if len(digests) > 1 else None
        changed, _ = deployment.install(
            unit, planned.packed, store, name, digests[0], limit_s=limit_s, second=second, try_out=lambda: None
        )
    if as_json:
        told = {"name": name, "digests": digests, "unit": unit, "changed": changed}
        console.print_json({**told, "files": [one.path for one in planned.packed]})
        return
    console.say(f"{name} {'runs' if changed else 'runs already, unchanged'}")
    console.say(f"unit    {unit} ({systemctl.show(unit, 'StatusText')})")
    console.say(f"files   /var/lib/edgeward-{name}")


def _for_service(found: "Declared", places: Sequence[str]) -> tuple[dict[str, Any], "Reach", tuple[str, ...]]:
    """The pipeline's table with paths as the service sees them, what it needs, and what it reads."""
    from edgeward.bundle.needs import joined
    from edgeward.serve import reach

    said = found.pipeline
    where = {"here": str(Path.cwd()), "state": f"/var/lib/edgeward-{said.name}"}
    where["secrets"] = f"/run/credentials/edgeward-{said.name}.service"
    source = reach.place("source", said.source, **where)
    sinks = [reach.place("sink", one, **where) for one in said.sinks]
    table = {**msgspec.to_builtins(said), "bundle": places[0], "source": source.table}
    table["sinks"] = [one.table for one in sinks]
    if said.cascade:
        table["cascade"] = {**table["cascade"], "bundle": places[1]}
    table.pop("keys", None)  # the unit names those that signed
    placed = (source, *sinks)
    return table, joined(one.reach for one in placed), tuple(path for one in placed for path in one.reads)


def _check_places(planned: Planned) -> None:
    """Raises where the service's user could not read or write what it must."""
    from edgeward.cli import deployment
    from edgeward.kit.errors import Unsupported, WrongInput

    for path in map(Path, planned.reads):
        if not path.exists():
            raise WrongInput(f"{path}: no such file or folder, and the pipeline reads it")
        if why := deployment.hidden(path):
            raise Unsupported(f"{path}: a service has a user of its own, which cannot read this: {why}")
    for folder in map(Path, planned.writes):
        if not folder.is_dir() or not folder.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise Unsupported(
                f"{folder}: is no folder that a service with a user of its own can write",
                hint=f"a path without / at its beginning lies in /var/lib/edgeward-{planned.name}",
            )


def _toml(table: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
    return "\n".join(["# Written by `edgeward deploy --pipeline`, which writes it anew.", "[[pipeline]]", *lines, ""])


def _value(value: Any) -> str:
    """As TOML writes it in one line; what is None is left out. JSON's strings are TOML's, but for DEL."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(k)} = {_value(v)}' for k, v in value.items() if v is not None)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
