"""A model, the steps around it, and the data used to calibrate and judge it."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from edgeward.records.base import Bytes, Count, Descriptor, Digest, Document, Positive, Ratio, Record, Slug

Dtype = Literal[
    "float32", "float16", "float64", "bfloat16", "int8", "uint8", "int16", "uint16",
    "int32", "uint32", "int64", "uint64", "bool", "string",
]  # fmt: skip


class TensorSpec(Record):
    """One input or output. A name in `shape` is a free dimension, such as "batch"."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]


class Model(Record):
    """A network in one format, such as "onnx" or "litert". `parent` is what it was made from."""

    name: Slug
    format: Slug
    files: tuple[Descriptor, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameter_count: Count
    parent: Digest | None = None


class ModelFacts(Record):
    """What a model file says of itself. `macs` (multiply-accumulates of one sample) is None where shapes are free."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, Count]
    parameter_count: Count
    macs: Count | None
    precision: str
    opset: int
    producer: str
    size_bytes: Bytes


Side = Annotated[int, Meta(ge=1, le=65536)]


class Resize(Record, tag="resize"):
    """To height × width by bilinear filtering; `keep_aspect` fits inside and pads with grey 114."""

    height: Side
    width: Side
    keep_aspect: bool = False


class CenterCrop(Record, tag="center_crop"):
    """The middle height × width of an image, which must be at least that large."""

    height: Side
    width: Side


class ColorOrder(Record, tag="color_order"):
    """Swaps red and blue where a model was trained on BGR. Raw samples are always RGB."""

    order: Literal["RGB", "BGR"]


class Normalize(Record, tag="normalize"):
    """(value × scale - mean) / std, per channel (the last axis); one value serves all channels."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    scale: Positive = 1 / 255


class ToLayout(Record, tag="to_layout"):
    """The axes order the model wants, without the batch axis; raw images are height, width, channel."""

    layout: Literal["NCHW", "NHWC"]


class FitLength(Record, tag="fit_length"):
    """A waveform cut, or padded with zeros, at its end to so many samples."""

    samples: Annotated[int, Meta(ge=1)]


class LogMel(Record, tag="log_mel"):
    """Waveform to log-mel energies, frames × mels: ln(mel power + floor). HTK mel scale, Hann window."""

    sample_rate: Annotated[int, Meta(ge=1)]
    frame_length: Annotated[int, Meta(ge=2)]
    hop_length: Annotated[int, Meta(ge=1)]
    mel_count: Annotated[int, Meta(ge=1)]
    low_hz: Annotated[float, Meta(ge=0)]
    high_hz: Positive
    floor: Positive = 1e-6


PreprocessStep = Resize | CenterCrop | ColorOrder | Normalize | ToLayout | FitLength | LogMel
Preprocess = tuple[PreprocessStep, ...]
"""From raw sample to input tensor; the same steps run in calibration, evaluation and on the device."""


class Classify(Record, tag="classify"):
    """The best `top` classes of the first output, named by the bundle's labels; the outputs stay as they are.

    `softmax` turns scores into probabilities for the classes named, where the model itself ends in scores.
    """

    top: Annotated[int, Meta(ge=1)] = 1
    softmax: bool = False


class Detect(Record, tag="detect"):
    """Boxes of the outputs, in pixels of the model's input, overlapping ones of a class removed.

    `layout` is how one sample's answer lies: "rows" is anchors × (4 + classes), "columns" (4 + classes) × anchors,
    "pair" two outputs, anchors × 4 and anchors × classes. Boxes are corners (xyxy) or middle and size (cxcywh), in
    pixels, or 0..1 of the input where `normalized`. `sigmoid` turns scores into 0..1. A box and class stay
    from `score_threshold` on, unless a better one of that class overlaps them by more than `iou_threshold`.
    """

    layout: Literal["rows", "columns", "pair"]
    box_format: Literal["xyxy", "cxcywh"]
    normalized: bool = False
    sigmoid: bool = False
    score_threshold: Ratio = 0.25
    iou_threshold: Ratio = 0.5
    most: Annotated[int, Meta(ge=1, le=1000)] = 100


PostprocessStep = Classify | Detect
Postprocess = tuple[PostprocessStep, ...]
"""From output tensors to the answer."""


class PreprocessFile(Document):
    """What a person writes to say how a model wants its input, and how its answer is read: `[[preprocess]]` and
    `[[postprocess]]` tables in TOML.
    """

    preprocess: Preprocess
    postprocess: Postprocess = ()


SampleKind = Literal["image", "audio", "tensor"]
"""What a raw sample is: uint8 RGB or grey height × width × channel; a float32 mono waveform in -1..1; or
the model's own input tensors."""


class Dataset(Record):
    """Samples with one purpose. Calibration data never doubles as evaluation data."""

    name: str
    purpose: Literal["calibration", "evaluation"]
    kind: SampleKind
    samples: Digest
    sample_count: Count
    class_count: Count
