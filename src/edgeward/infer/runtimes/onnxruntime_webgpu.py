"""ONNX Runtime on any GPU with a Vulkan driver, by WebGPU."""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="WebGpuExecutionProvider",
        install="pip install onnxruntime-ep-webgpu",
        options=_options,
        plugin="onnxruntime_ep_webgpu",
    )
)
