"""OpenVINO on the CPU, where what is float is computed in bfloat16: faster, to three decimal digits."""

from edgeward.infer import openvino_library, openvino_session
from edgeward.infer.runtimes.base import Accountant, Profile, Runtime, Session


class OpenVinoBf16:
    formats = ("onnx",)

    def version(self) -> str:
        return openvino_library.version()

    def providers(self) -> tuple[str, ...]:
        return openvino_library.devices()

    def load(self, model: bytes, *, threads: int) -> Session:
        return openvino_session.load(model, threads=threads, precision="bf16")

    def arithmetic_of(self, model: bytes) -> str:
        return openvino_session.arithmetic_of(model, precision="bf16")

    def read(self, model: bytes) -> object:
        return openvino_session.read(model)

    def profile(self, model: bytes, *, threads: int) -> Profile:
        from edgeward.infer import openvino_profile  # by OpenVINO's Python package, a slow import

        return openvino_profile.profile(model, threads=threads, precision="bf16")

    def account(self, model: bytes, *, threads: int) -> Accountant:
        from edgeward.infer import openvino_profile  # by OpenVINO's Python package, a slow import

        return openvino_profile.profile(model, threads=threads, precision="bf16")

    def smoke_model(self) -> bytes:
        return openvino_session.smoke_model()


plugin: Runtime = OpenVinoBf16()
