"""A device while something is delivered to it: one connection of the user's own ssh, as root there."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from edgeward.kit import errors
from edgeward.kit.errors import Failed, Unavailable, WrongInput
from edgeward.kit.process import Died, Partner
from edgeward.kit.wheels import Abi
from edgeward.measure import ssh

_PORTER = Path(__file__).with_name("porter.py")
_PART_BYTES = 1 << 20
_LIMIT_S = 120
_WORK_LIMIT_S = 1800

Told = Callable[[str, float], None]


class Facts(msgspec.Struct, frozen=True):
    """What a device says of itself. `programs` are those that can run services, with what they say of their version."""

    python: tuple[int, int]
    arch: str
    libc: tuple[str, str]
    is_root: bool
    is_systemd: bool
    programs: dict[str, str]
    free_bytes: int
    cpus: int
    releases: tuple[str, ...]

    @property
    def abi(self) -> Abi:
        """What packages for it are chosen by."""
        return Abi(self.arch, self.python, int(self.libc[1].split(".")[1]))


class Done(NamedTuple):
    """How a command there ended."""

    code: int
    output: str
    complaint: str


class Run(NamedTuple):
    """How a container is started: by `engine`, of `image`, for the bundle of `digest` and the service of its name. It
    does when `healthy` ends well in it within `limit_s`, and then `trial`."""

    engine: str
    name: str
    service: str
    version: str
    digest: str
    image: str
    options: Sequence[str]
    arguments: Sequence[str]
    healthy: Sequence[str]
    trial: Sequence[str]
    limit_s: int


class Device:
    """A machine to deliver to, for as long as the `with` lasts.

    Raises Unavailable where it cannot be reached, the connection is lost or its user may not become root.
    """

    def __init__(self, host: str, *, options: Sequence[str] = ()) -> None:
        self.host = host
        self._partner = Partner(ssh.python_command(host, _PORTER, options, as_root=True))

    def __enter__(self) -> Self:
        try:
            self.facts = msgspec.convert(self._ask({"do": "hello"}), Facts)
        except BaseException:
            self._partner.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._partner.end()

    def send(self, what: str, files: Mapping[str, Path], told: Told = lambda *_: None) -> int:
        """Sends the files whose digests (64 hexadecimal digits) are not there, from where an earlier try was cut.
        Returns the bytes that were sent; `told` the share of them meanwhile."""
        there = self._ask({"do": "there", "digests": list(files)})["bytes"]
        missing = {digest: path for digest, path in files.items() if there[digest] < path.stat().st_size}
        total = sum(path.stat().st_size - int(there[digest]) for digest, path in missing.items())
        if total > self.facts.free_bytes:
            raise Failed(
                f"{self.host}: no space left on the device: {what} takes {total / 1e6:.0f} MB, and "
                f"{self.facts.free_bytes / 1e6:.0f} are free in /var/lib/edgeward",
                hint=ssh.words(self.host, then=["df", "-h"]),
            )
        sent = 0
        for digest, path in missing.items():
            for count in self._send(digest, path, there[digest]):
                sent += count
                told(f"sending {what} ({total / 1e6:.1f} MB)", sent / total)
        return total

    def lay(self, folder: str, files: Mapping[str, str]) -> str:
        """The path there of a folder of files that were sent: paths in it, and their digests."""
        return str(self._ask({"do": "lay", "folder": folder, "files": files})["path"])

    def release(
        self, name: str, archives: Sequence[str], commands: Mapping[str, str], python: Mapping[str, str] | None = None
    ) -> str:
        """The interpreter there that has these packages, which were sent; `commands` are programs and their modules.
        Where `python` is told, that is the interpreter: its "archive", which was sent, the text of the "program" that
        starts it, and the "site" of the packages in the release."""
        request = {"do": "release", "name": name, "archives": archives, "commands": commands, "python": python}
        return str(self._ask(request, limit_s=_WORK_LIMIT_S)["python"])

    def run(self, *command: str) -> Done:
        """One command to its end. It goes on there when the connection is lost."""
        answer = self._ask({"do": "run", "command": command}, limit_s=_WORK_LIMIT_S)
        return Done(answer["code"], answer["output"], answer["complaint"])

    def load(self, engine: str, folder: str, image: str) -> None:
        """Gives a container engine there the image that was laid in `folder`."""
        self._ask({"do": "load", "engine": engine, "folder": folder, "image": image}, limit_s=_WORK_LIMIT_S)

    def replace(self, run: "Run") -> str:
        """Starts a container in the place of another; what its trial printed in it. Raises Failed where it does not do:
        then the other one runs again."""
        answer = self._ask({"do": "replace", **run._asdict()}, limit_s=run.limit_s + _WORK_LIMIT_S)
        return str(self._did(answer, run.name)["output"])

    def containers(self) -> list[dict[str, Any]]:
        """The services there that run in containers, each as `edgeward status --json` tells of a service."""
        return list(self._ask({"do": "containers"})["services"])

    def go_back(self, service: str) -> str:
        """Lets a service run the container before this one again; the digest of its bundle. Raises WrongInput where
        there is none, Failed where it does not do: then this one runs on."""
        answer = self._ask({"do": "go_back", "service": service}, limit_s=2 * _WORK_LIMIT_S)
        return str(self._did(answer, answer["name"])["digest"])

    def _did(self, answer: dict[str, Any], name: str) -> dict[str, Any]:
        if "reason" in answer:
            now = "what ran before runs again" if answer["is_back"] else "nothing of it was left behind"
            raise Failed(f"{self.host}: the container {name} did not start: {answer['reason']}; {now}")
        return answer

    def roll_out(
        self, engine: str, name: str, manifest: str, *, label: str, trial: Sequence[str], limit_s: int
    ) -> tuple[str, str]:  # fmt: skip
        """Applies the manifest of a DaemonSet and gives the node its label; what `trial` printed in the pod, and the
        address of its service. Raises Failed where it does not do: then the one before runs again."""
        request: dict[str, Any] = {"do": "roll_out", "engine": engine, "name": name, "manifest": manifest}
        request |= {"label": label, "trial": trial, "limit_s": limit_s}
        answer = self._ask(request, limit_s=2 * limit_s + _WORK_LIMIT_S)
        if "reason" in answer:
            now = "what ran before runs again" if answer["is_back"] else "nothing of it was left behind"
            raise Failed(f"{self.host}: daemonset/{name} did not start: {answer['reason']}; {now}")
        return str(answer["output"]), str(answer["address"])

    def prune(self) -> None:
        """Removes the releases that nothing uses any more."""
        self._ask({"do": "prune"})

    def forget(self, names: Sequence[str]) -> None:
        """Removes what was sent and is not needed any more."""
        self._ask({"do": "forget", "names": names})

    def _send(self, digest: str, path: Path, offset: int) -> Iterator[int]:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(offset)
            while offset < size:
                part = file.read(_PART_BYTES)
                if not part:
                    raise WrongInput(f"{path}: became shorter while it was read")
                is_last = offset + len(part) >= size
                self._ask({"do": "append", "digest": digest, "offset": offset, "is_last": is_last}, part)
                offset += len(part)
                yield len(part)

    def _ask(self, request: dict[str, Any], data: bytes | None = None, *, limit_s: float = _LIMIT_S) -> dict[str, Any]:
        self._partner.tell(json.dumps(request).encode())
        if data is not None:
            self._partner.tell(data)
        try:
            answer: dict[str, Any] = json.loads(self._partner.hear(limit_s=limit_s))
        except Died as error:
            raise ssh.ended(self.host, error.code, error.complaint) from None
        except Failed as error:
            raise Unavailable(f"{self.host}: {error.message}", hint=ssh.words(self.host, "-v")) from None
        except (ValueError, MemoryError, OverflowError):
            raise Unavailable(f"{self.host}: something there writes to the connection before Python does") from None
        if "error" in answer:
            kind = getattr(errors, answer["kind"])
            is_full = "no space left" in answer["error"]
            hint = ssh.words(self.host, then=["df", "-h"]) if is_full else None
            raise kind(f"{self.host}: {answer['error']}", hint=hint)
        return answer
