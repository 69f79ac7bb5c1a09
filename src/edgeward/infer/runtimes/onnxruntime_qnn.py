"""ONNX Runtime on Qualcomm's Hexagon NPU, by QNN; it computes what is float in half precision.

On an x86 machine Qualcomm's simulator computes, in full precision, on the CPU.
"""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {
        "backend_type": "htp", "htp_performance_mode": "burst", "htp_graph_finalization_optimization_mode": "3",
    }  # fmt: skip


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="QNNExecutionProvider",
        install="pip install onnxruntime-qnn",
        options=_options,
        plugin="onnxruntime_qnn",
        arithmetic="float16",
        fixed_shapes=True,
        has_simulator=True,
    )
)
