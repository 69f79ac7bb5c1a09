"""ONNX Runtime on an Intel CPU, by OpenVINO, with float32 as float32. With a free batch it takes a third more time."""

from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    return {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(threads), "num_streams": "1"}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="OpenVINOExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
        options=_options,
        fixed_shapes=True,
    )
)
