"""ONNX Runtime on an NVIDIA GPU, by TensorRT, in float32 and, where the model has quantise nodes, int8."""

from edgeward.infer import engine_cache
from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    """The engine is kept, since building one takes minutes."""
    place = str(engine_cache.folder("onnxruntime-tensorrt"))
    return {
        "trt_engine_cache_enable": "1", "trt_engine_cache_path": place,
        "trt_timing_cache_enable": "1", "trt_timing_cache_path": place,
        "trt_int8_enable": "1" if b"DequantizeLinear" in model else "0",
    }  # fmt: skip


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="TensorrtExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt",
        options=_options,
        fallbacks=("CUDAExecutionProvider",),
        arithmetic="tf32",
    )
)
