"""ONNX Runtime on Arm, by the Arm Compute Library, with float32 as float32."""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {"enable_fast_math": "false"}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="ACLExecutionProvider",
        install="build ONNX Runtime with ./build.sh --use_acl --build_wheel: no wheel on PyPI has it",
        options=_options,
    )
)
