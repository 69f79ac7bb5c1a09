"""LiteRT on the CPU with XNNPACK, which is kept from AMX: its tiles are 64 channels wide, small models are not."""

from edgeward.infer import litert_account, litert_profile, litert_session
from edgeward.infer.runtimes.base import Accountant, Profile, Runtime, Session


class LiteRt:
    formats = ("litert",)

    def version(self) -> str:
        return litert_session.version()

    def providers(self) -> tuple[str, ...]:
        return ("XNNPACK", "CPU")

    def load(self, model: bytes, *, threads: int) -> Session:
        return litert_session.load(model, threads=threads, tiles=False)

    def read(self, model: bytes) -> object:
        return litert_session.read(model)

    def profile(self, model: bytes, *, threads: int) -> Profile:
        return litert_profile.profile(model, threads=threads, tiles=False)

    def account(self, model: bytes, *, threads: int) -> Accountant:
        return litert_account.account(model, threads=threads, tiles=False)

    def smoke_model(self) -> bytes:
        return litert_session.smoke_model()


plugin: Runtime = LiteRt()
