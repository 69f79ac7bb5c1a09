"""What a packer promises: a verified bundle and how it shall run, in; the files of one platform, out."""

from typing import NamedTuple, Protocol

from edgeward.bundle.needs import Reach
from edgeward.bundle.verify import VerifiedBundle


class Duty(NamedTuple):
    """A pipeline that runs instead of a server: its edgeward.toml for the machine that it goes to, a cascade's second
    bundle, and what its source and sinks need."""

    name: str
    settings: bytes
    second: VerifiedBundle | None = None
    reach: Reach = Reach()


class Service(NamedTuple):
    """How a bundle shall be served on the machine that it goes to.

    `python` is the interpreter there that has edgeward. `bundle` is the bundle's folder there, which may be a link that
    is switched when the bundle is renewed. `systemd` is the version of the machine's service manager. With a `duty` it
    runs that, and serves on no port.
    """

    python: str
    bundle: str
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int | None = None
    systemd: int = 252
    duty: Duty | None = None


class PackedFile(NamedTuple):
    """One file of the result: its path on the machine that it goes to, or in the folder of an export."""

    path: str
    data: bytes
    mode: int = 0o644


class Packer(Protocol):
    """Writes the files of one platform. It sees no clock, disk or network: equal input gives equal bytes."""

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        """Every file that the platform needs besides the bundle's own bytes, in the order in which they are put."""
        ...
