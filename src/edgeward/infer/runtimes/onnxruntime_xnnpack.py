"""ONNX Runtime with XNNPACK's kernels on the CPU. XNNPACK has threads of its own, so ONNX Runtime's are kept to one."""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {"intra_op_num_threads": str(threads)}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="XnnpackExecutionProvider",
        install="build ONNX Runtime with ./build.sh --use_xnnpack --build_wheel: no wheel on PyPI has it",
        options=_options,
        session_threads=1,
        entries={"session.intra_op.allow_spinning": "0"},
    )
)
