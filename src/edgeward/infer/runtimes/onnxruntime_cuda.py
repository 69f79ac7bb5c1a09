"""ONNX Runtime on an NVIDIA GPU, by CUDA, with float32 as float32: TF32 is what it would take by itself."""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="CUDAExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'",
        options=_options,
    )
)
