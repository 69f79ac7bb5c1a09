"""LiteRT on the CPU with XNNPACK and AMX, for models wide enough to fill its tiles: 64 channels."""

from edgeward.infer import litert_account, litert_profile, litert_session
from edgeward.infer.runtimes.base import Accountant, Profile, Runtime, Session
from edgeward.kit.errors import Unsupported


class LiteRtAmx:
    formats = ("litert",)

    def version(self) -> str:
        return litert_session.version()

    def providers(self) -> tuple[str, ...]:
        return ("XNNPACK", "CPU")

    def load(self, model: bytes, *, threads: int) -> Session:
        if not litert_session.cpu_has_tiles():
            raise Unsupported("this CPU has no AMX; use the runtime litert")
        return litert_session.load(model, threads=threads, tiles=True)

    def read(self, model: bytes) -> object:
        return litert_session.read(model)

    def profile(self, model: bytes, *, threads: int) -> Profile:
        return litert_profile.profile(model, threads=threads, tiles=True)

    def account(self, model: bytes, *, threads: int) -> Accountant:
        return litert_account.account(model, threads=threads, tiles=True)

    def smoke_model(self) -> bytes:
        return litert_session.smoke_model()


plugin: Runtime = LiteRtAmx()
