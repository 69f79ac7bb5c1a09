"""ONNX Runtime on the NPU of an Intel Core Ultra, by OpenVINO; it computes what is float in half precision."""

from edgeward.infer import engine_cache
from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {"device_type": "NPU", "cache_dir": str(engine_cache.folder("onnxruntime-openvino-npu"))}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="OpenVINOExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
        options=_options,
        arithmetic="float16",
        fixed_shapes=True,
    )
)
