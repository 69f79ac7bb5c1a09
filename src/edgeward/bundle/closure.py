"""All that a device needs besides Python to serve a bundle: wheels for it, and the folder /opt/edgeward made of them.

The folder is a virtual environment: `bin/python` is a link to the device's Python, which finds its packages by that.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeward.bundle import pruning
from edgeward.bundle.own_wheel import own_distribution, own_wheel
from edgeward.kit import wheels
from edgeward.kit.bytecode import is_made_for, with_bytecode
from edgeward.kit.codec import digest_of, digest_of_file, to_json
from edgeward.kit.errors import Unsupported
from edgeward.kit.files import write_atomic
from edgeward.kit.tars import FORMAT, Archive, Entry, tar_gz
from edgeward.kit.wheels import Abi

HOME = "/opt/edgeward"
VERSION = 1
"""Counts the changes of what is left out and compiled: what was packed by others is packed anew."""
_CACHE = Path(".cache") / "edgeward" / "closures"
_OLDEST_PYTHON = (3, 11)
_OF_RUNTIME = {
    "echo": ((), ()),
    "litert": (("litert",), ()),
    "openvino": (("openvino",), ()),
    "onnxruntime": ((), ("onnxruntime>=1.24",)),
    "onnxruntime-cuda": ((), ("onnxruntime-gpu>=1.24",)),
    "onnxruntime-migraphx": ((), ("onnxruntime-migraphx>=1.24",)),
    "onnxruntime-openvino": ((), ("onnxruntime-openvino>=1.24",)),
    "onnxruntime-qnn": (("qnn",), ()),
    "onnxruntime-tensorrt": ((), ("onnxruntime-gpu>=1.24", "tensorrt>=10")),
    "onnxruntime-webgpu": (("webgpu",), ("onnxruntime>=1.24",)),
    "executorch": ((), ("executorch>=1.0",)),
    "tensorrt": (("tensorrt",), ()),
    "tvm": ((), ("apache-tvm>=0.27",)),
}
"""By the beginning of a runtime's name, the longest that fits: extras of ours that bring it, and packages."""
CPU_RUNTIMES = ("echo", "litert", "onnxruntime", "onnxruntime-xnnpack", "openvino", "executorch", "tvm")
"""Those that need no driver on a device."""


class Closure(NamedTuple):
    """`wheels` are those of others; `named` are the packages that were asked for, and not by another package."""

    abi: Abi
    wheels: tuple[Path, ...]
    named: frozenset[str]

    @property
    def packages(self) -> dict[str, str]:
        """Names and versions."""
        parts = (path.name.split("-", 2) for path in self.wheels)
        return {_normal(name): version for name, version, _ in parts if self._keeps(_normal(name))}

    def _keeps(self, package: str) -> bool:
        return package in self.named or pruning.is_needed(package)

    def needed(self) -> Iterator[tuple[str, Path]]:
        """Each package that stays, by its name, and its wheel."""
        for path in self.wheels:
            name = _normal(path.name.partition("-")[0])
            if self._keeps(name):
                yield name, path


def closure_of(
    abi: Abi, runtime: str, *, extras: Sequence[str] = (), only_in: Path | None = None, anew: bool = False
) -> Closure:
    """What a device of this kind needs to serve a bundle for `runtime`. Without a network where it was asked before.

    Raises Unsupported where there are no wheels for it, Unavailable where they cannot be had now.
    """
    if abi.python < _OLDEST_PYTHON:
        raise Unsupported(f"{abi.words}: edgeward needs Python 3.11 or newer")
    wanted = requirements(runtime, extras)
    found = wheels.fetched(abi, wanted, only_in=only_in, anew=anew)
    return Closure(abi, tuple(found), frozenset(_name(one) for one in wanted))


def requirements(runtime: str, extras: Sequence[str] = ()) -> tuple[str, ...]:
    """What a device needs of others to run `runtime`. ONNX Runtime is not among it where another one runs."""
    ours, packages = _of(runtime)
    own = own_distribution().requires or []
    base = [line for line in own if ";" not in line and _name(line) != "onnxruntime"]
    more = [_plain(line) for extra in (*ours, *extras) for line in own if _is_of(line, extra)]
    return tuple(dict.fromkeys(sorted([*base, *more, *packages])))


def dependencies(closure: Closure) -> Archive:
    """The packages of others, below /opt/edgeward."""
    marks = [*_marks(closure.abi), *(digest_of_file(path) for _, path in closure.needed())]
    site = site_packages(closure.abi)

    def entries() -> Iterator[Entry]:
        for name, path in closure.needed():
            yield from _unpacked(name, path.read_bytes(), site)

    return _kept("dependencies", marks, lambda: with_bytecode(entries(), closure.abi.python))


def own(abi: Abi) -> Archive:
    """Edgeward itself, below /opt/edgeward."""
    name, data = own_wheel()
    site = site_packages(abi)
    marks = [*_marks(abi), digest_of(data)]
    return _kept(name, marks, lambda: with_bytecode(_unpacked("edgeward", data, site), abi.python))


def environment(abi: Abi, python: str) -> tuple[Entry, ...]:
    """What makes the folder a virtual environment of the interpreter `python`, and the program `edgeward` in it."""
    home = f"{HOME[1:]}"
    version = ".".join(map(str, abi.python))
    settings = f"home = {python.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {version}\n"
    program = f"#!{HOME}/bin/python\nfrom edgeward.cli.main import process\n\nprocess()\n"
    return (
        Entry(f"{home}/bin/edgeward", program.encode(), 0o755),
        Entry(f"{home}/bin/python", link=python),
        Entry(f"{home}/pyvenv.cfg", settings.encode()),
    )


def site_packages(abi: Abi) -> str:
    """Where its packages are, without a slash at its beginning."""
    return f"{HOME[1:]}/lib/python{abi.python[0]}.{abi.python[1]}/site-packages"


def _marks(abi: Abi) -> list[str]:
    return [abi.slug, FORMAT, f"rules {VERSION}", "compiled" if is_made_for(abi.python) else "not compiled"]


def _kept(name: str, marks: Sequence[str], entries: Callable[[], Iterable[Entry]]) -> Archive:
    """The archive of what `marks` stand for, written once."""
    folder = Path.home() / _CACHE
    stem = f"{name}-{hashlib.sha256(to_json(list(marks))).hexdigest()[:32]}"
    path, about = folder / f"{stem}.tar.gz", folder / f"{stem}.json"
    if about.is_file() and path.is_file():
        said = msgspec.json.decode(about.read_bytes(), type=_Known)
        if path.stat().st_size == said.size:
            return Archive(path, said.digest, said.size, said.inner)
    folder.mkdir(parents=True, exist_ok=True)
    made = tar_gz(entries(), path)
    write_atomic(about, to_json(_Known(made.digest, made.size, made.inner)))
    return made


class _Known(msgspec.Struct, frozen=True):
    """What a kept archive is, so that it need not be read again."""

    digest: str
    size: int
    inner: str


def _unpacked(package: str, wheel: bytes, site: str) -> Iterator[Entry]:
    """What is kept of a wheel, where it is imported from."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for path in pruning.kept(package, archive.namelist()):
            mode = 0o755 if archive.getinfo(path).external_attr >> 16 & 0o100 else 0o644
            place = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", path)
            yield Entry(f"{site}/{place}", archive.read(path), mode)


def _of(runtime: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fitting = [name for name in _OF_RUNTIME if runtime == name or runtime.startswith(f"{name}-")]
    if not fitting:
        raise Unsupported(f"which packages run {runtime!r} is not known; it is a runtime of another distribution")
    return _OF_RUNTIME[max(fitting, key=len)]


def _is_of(line: str, extra: str) -> bool:
    return bool(re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", line))


def _plain(line: str) -> str:
    return line.partition(";")[0].strip()


def _name(requirement: str) -> str:
    return _normal(re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
