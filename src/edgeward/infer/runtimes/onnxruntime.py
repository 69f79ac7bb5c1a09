"""ONNX Runtime on the CPU. What only a profile needs is opened for a profile: a first answer does not wait for it."""

import onnxruntime as ort

from edgeward.infer import onnxruntime_session
from edgeward.infer.runtimes.base import Accountant, Profile, Runtime, Session


class OnnxRuntime:
    formats = ("onnx",)

    def version(self) -> str:
        return onnxruntime_session.version()

    def providers(self) -> tuple[str, ...]:
        return tuple(ort.get_available_providers())

    def load(self, model: bytes, *, threads: int) -> Session:
        options = onnxruntime_session.options_for(threads)
        return onnxruntime_session.OrtSession(onnxruntime_session.opened(model, options, [onnxruntime_session.CPU]))

    def read(self, model: bytes) -> object:
        return onnxruntime_session.read(model)

    def profile(self, model: bytes, *, threads: int) -> Profile:
        from edgeward.infer import onnxruntime_profile

        return onnxruntime_profile.profile(model, threads=threads)

    def account(self, model: bytes, *, threads: int) -> Accountant:
        from edgeward.infer import onnxruntime_account

        return onnxruntime_account.account(model, threads=threads)

    def arithmetic_of(self, model: bytes) -> str | None:
        from edgeward.infer import onnxruntime_arithmetic

        return onnxruntime_arithmetic.arithmetic_of(model)

    def smoke_model(self) -> bytes:
        return onnxruntime_session.smoke_model()


plugin: Runtime = OnnxRuntime()
