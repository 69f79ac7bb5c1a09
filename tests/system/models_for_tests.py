"""A small convolutional classifier of 8 × 8 grey images and data that it knows, both made by a seeded generator."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASS_COUNT = 3
_SIDE = 8
_FILTERS = 8


def samples(count: int = 90, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count × 8 × 8 × 1) with a bright bar over noise, and the class that the bar's place stands for."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASS_COUNT
    images = generator.integers(0, 100, (count, _SIDE, _SIDE, 1))
    for image, label in zip(images, labels, strict=True):
        image[1 + 2 * label : 3 + 2 * label] += 150
    return images.astype(np.uint8), labels


def classifier(*, side: int | str = _SIDE, seed: int = 7) -> onnx.ModelProto:
    """Conv, Relu, a pool to 4 × 4 and a linear layer fitted to `samples`; input "image" N×1×side×side of float32."""
    kernel = np.random.default_rng(seed).normal(0, 0.4, (_FILTERS, 1, 3, 3)).astype(np.float32)
    weights = {"kernel": kernel, "weight": _fitted(kernel), "scale": np.float32([1 / 255])}
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("AveragePool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "bars",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, side, side])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASS_COUNT])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_unknown_operator(domain: str = "") -> onnx.ModelProto:
    """The classifier with an operator that nobody knows in place of Relu."""
    model = classifier()
    model.graph.node[2].op_type = "Wobble"
    model.graph.node[2].domain = domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def write_samples(path: Path, **changed: Any) -> Path:
    """`samples` as an .npz; `changed` arrays stand in for its own, or beside them."""
    images, labels = samples()
    np.savez(path, **{"image": images, "labels": labels, **changed})
    return path


def write_images(folder: Path, count: int = 24) -> Path:
    """`samples` as a folder of PNG files, one subfolder for each class."""
    from PIL import Image

    for index, (image, label) in enumerate(zip(*samples(count), strict=True)):
        file = folder / f"class-{label}" / f"{index:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
    return folder


def _fitted(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last layer, by ridge regression from what the layers before it make of `samples`."""
    images, labels = samples(600, seed=99)
    padded = np.pad(images[..., 0] / 255, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    active = np.maximum(np.einsum("nhwij,fij->nfhw", windows, kernel[:, 0]), 0)
    features = active.reshape(len(images), _FILTERS, 4, 2, 4, 2).mean(axis=(3, 5)).reshape(len(images), -1)
    wanted = np.eye(CLASS_COUNT)[labels]
    gram = features.T @ features + 0.1 * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ wanted).astype(np.float32)
