"""What a device does not need of the packages that it runs. Rules over paths in wheels."""

import re
from collections.abc import Collection

_UNUSED_PACKAGES = frozenset({
    "backports-strenum", "markdown-it-py", "mdurl", "ml-dtypes", "openvino-telemetry", "packaging", "protobuf",
    "pycparser", "pygments", "tqdm", "typing-extensions",
})  # fmt: skip
"""Asked for by what we need, and imported by nothing that runs on a device: they convert, draw or colour."""

_ANYWHERE = re.compile(
    r"(^|/)tests/"  # of the packages themselves
    r"|(^|/)include/"  # headers
    r"|\.(pyi|pxd|pyx|h|hpp|hh|a|cmake|pc)$"
    r"|\.data/(scripts|headers|data)/"
    r"|\.dist-info/(RECORD|INSTALLER|REQUESTED|entry_points\.txt)$"
)
_OF_PACKAGE = {
    "ai-edge-litert": re.compile(
        r"ai_edge_litert/(tools|aot|tflite|vendors)/"  # compile models for NPUs
        r"|ai_edge_litert/libLiteRtWebGpuAccelerator\.so$"
    ),
    "numpy": re.compile(
        r"numpy/(f2py|distutils|_pyinstaller)/"  # build packages
        r"|numpy/_core/(_simd|_[a-z]+_tests)\."  # its own tests
    ),
    "onnxruntime": re.compile(
        r"onnxruntime/(backend|datasets|quantization|tools|transformers)/"  # change models
        r"|onnxruntime/capi/libonnxruntime\.so"  # for C programs: Python's module has a whole copy in it
    ),
    "openvino": re.compile(
        r"openvino/(tools|torch|preprocess/torchvision|frontend/(jax|paddle|pytorch|tensorflow))/"
        r"|openvino/libs/libopenvino_(paddle|pytorch|jax|gguf|tensorflow)_frontend\."  # read other frameworks' models
        r"|openvino/libs/libopenvino_intel_(gpu|npu)_plugin\.|openvino/libs/cache\.json$"  # and compile for a GPU
    ),
}


def is_needed(package: str) -> bool:
    """Whether a package that others ask for is used on a device."""
    return package not in _UNUSED_PACKAGES


def kept(package: str, paths: Collection[str]) -> list[str]:
    """Those of a wheel's files that a device needs. Licences stay."""
    own = _OF_PACKAGE.get(package)
    return [
        path
        for path in paths
        if not path.endswith("/") and not _ANYWHERE.search(path) and not (own is not None and own.match(path))
    ]
