"""ONNX Runtime on an Intel GPU, by OpenVINO, with float32 as float32."""

from edgeward.infer import engine_cache
from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    place = str(engine_cache.folder("onnxruntime-openvino-gpu"))
    return {"device_type": "GPU", "precision": "FP32", "num_streams": "1", "cache_dir": place}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="OpenVINOExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
        options=_options,
        fixed_shapes=True,
    )
)
