"""What a packer promises: a verified bundle and how it shall run, in; the files of one platform, out."""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from edgeward.bundle.bases import Base
from edgeward.bundle.containers import Container, container_of
from edgeward.bundle.needs import Reach
from edgeward.bundle.verified import VerifiedBundle
from edgeward.kit.tars import Archive, Entry
from edgeward.kit.wheels import Abi


class Duty(NamedTuple):
    """A pipeline that runs instead of a server: its edgeward.toml for the machine that it goes to, a cascade's second
    bundle, and what its source and sinks need."""

    name: str
    settings: bytes
    second: VerifiedBundle | None = None
    reach: Reach = Reach()


class PackedFile(NamedTuple):
    """One file of the result: its path on the machine that it goes to, or in the folder of an export. With an `origin`
    its bytes are those of that file here, which may be large."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    origin: Path | None = None


class Machine(NamedTuple):
    """One processor that an image or a package is for: `parts` are what /opt/edgeward holds, packages of others and our
    own, `environment` what makes it one for the Python there. `base` is what an image stands on."""

    arch: str
    abi: Abi
    parts: tuple[Archive, ...]
    environment: tuple[Entry, ...]
    base: Base | None = None


class Service(NamedTuple):
    """How a bundle shall be served on the machine that it goes to.

    `python` is the interpreter there that has edgeward. `bundle` is the bundle's folder there, which may be a link that
    is switched when the bundle is renewed. `systemd` is the version of the machine's service manager. With a `duty` it
    runs that, and serves on no port. For a container, `image` is the name that it is started by,
    and `model_image` that of the bundle alone, which a cluster mounts over the image's own. What is packed whole
    takes the bundle's own files, `contents`, for some `machines`, and with `within` the files of another packer.
    """

    python: str
    bundle: str
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int | None = None
    systemd: int = 252
    duty: Duty | None = None
    image: str = ""
    model_image: str = ""
    contents: tuple[PackedFile, ...] = ()
    machines: tuple[Machine, ...] = ()
    within: tuple[PackedFile, ...] = ()


class Packer(Protocol):
    """Writes the files of one platform. It sees no clock, disk or network: equal input gives equal bytes."""

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        """Every file that the platform needs besides the bundle's own bytes, in the order in which they are put."""
        ...


@runtime_checkable
class Whole(Protocol):
    """A packer that also says this packs all that runs, and so wants `contents` and `machines`: whether these stand
    on a base, and whose files it takes `within`, None for nobody's."""

    stands_on_base: bool
    within: str | None


def container(bundle: VerifiedBundle, service: Service) -> Container:
    """How the bundle runs in a container."""
    return container_of(bundle.manifest, service.image, service.host, service.port, service.threads)._replace(
        model_image=service.model_image
    )
