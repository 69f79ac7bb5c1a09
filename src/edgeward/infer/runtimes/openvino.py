"""OpenVINO on the CPU with float32 as float32; by itself it would compute in bfloat16 and say nothing."""

from edgeward.infer import openvino_library, openvino_session
from edgeward.infer.runtimes.base import Accountant, Profile, Runtime, Session


class OpenVino:
    formats = ("onnx",)

    def version(self) -> str:
        return openvino_library.version()

    def providers(self) -> tuple[str, ...]:
        return openvino_library.devices()

    def load(self, model: bytes, *, threads: int) -> Session:
        return openvino_session.load(model, threads=threads, precision="f32")

    def arithmetic_of(self, model: bytes) -> str:
        return openvino_session.arithmetic_of(model, precision="f32")

    def read(self, model: bytes) -> object:
        return openvino_session.read(model)

    def profile(self, model: bytes, *, threads: int) -> Profile:
        from edgeward.infer import openvino_profile  # by OpenVINO's Python package, a slow import

        return openvino_profile.profile(model, threads=threads, precision="f32")

    def account(self, model: bytes, *, threads: int) -> Accountant:
        from edgeward.infer import openvino_profile  # by OpenVINO's Python package, a slow import

        return openvino_profile.profile(model, threads=threads, precision="f32")

    def smoke_model(self) -> bytes:
        return openvino_session.smoke_model()


plugin: Runtime = OpenVino()
