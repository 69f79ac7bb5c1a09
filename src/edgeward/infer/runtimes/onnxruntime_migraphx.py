"""ONNX Runtime on an AMD GPU, by MIGraphX, with float32 as float32."""

from edgeward.infer import engine_cache
from edgeward.infer.onnxruntime_provider import OnnxRuntimeOn, Options, Provider
from edgeward.infer.runtimes.base import Runtime


def _options(model: bytes, threads: int) -> Options:  # noqa: ARG001 - every provider is asked alike
    place = str(engine_cache.folder("onnxruntime-migraphx"))
    return {"migraphx_fp16_enable": "0", "migraphx_int8_enable": "0", "migraphx_model_cache_dir": place}


plugin: Runtime = OnnxRuntimeOn(
    Provider(
        name="MIGraphXExecutionProvider",
        install="pip uninstall -y onnxruntime && pip install onnxruntime-migraphx",
        options=_options,
    )
)
