"""A model, the steps around it, and the data used to calibrate and judge it."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from edgeward.records.base import Bytes, Count, Descriptor, Digest, Document, Positive, Ratio, Record, Slug
from edgeward.records.flow import Flow

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


class Crop(Record, tag="crop"):
    """A fixed part of an image: its edges in pixels, or where `relative` in shares of the image's width and height,
    rounded to the nearest pixel. The part must lie in the image.
    """

    left: Annotated[float, Meta(ge=0)]
    top: Annotated[float, Meta(ge=0)]
    right: Positive
    bottom: Positive
    relative: bool = False


class Grey(Record, tag="grey"):
    """The brightness of an RGB image in bytes, (19595 R + 38470 G + 7471 B + 32768) // 65536 (ITU-R BT.601), as one
    channel, or the same in all three. A grey image keeps its values.
    """

    channels: Literal[1, 3] = 1


class Resample(Record, tag="resample"):
    """A waveform at another rate: from_hz to to_hz values a second, ceil(length × to / from) of them.

    The ideal low-pass at 0.91 of half the lower rate, cut by a Kaiser window (beta 9) of 32 zero crossings a side.
    """

    from_hz: Annotated[int, Meta(ge=1, le=1_000_000)]
    to_hz: Annotated[int, Meta(ge=1, le=1_000_000)]


class Window(Record, tag="window"):
    """The newest `length` values of a waveform, or rows of sensor values. In a stream one is due every `hop`."""

    length: Annotated[int, Meta(ge=1)]
    hop: Annotated[int, Meta(ge=1)]


class Mfcc(Record, tag="mfcc"):
    """The first `count` coefficients of the orthonormal DCT-II of each row, which `log_mel` makes:
    c(k) = s(k) Σ x(m) cos(π k (m + 1/2) / M), s(0) = √(1/M), else √(2/M).
    """

    count: Annotated[int, Meta(ge=1)]


class Detrend(Record, tag="detrend"):
    """Takes from each column of sensor rows its mean, or the straight line that fits it best (least squares)."""

    method: Literal["constant", "linear"] = "linear"


class FftFeatures(Record, tag="fft_features"):
    """The power spectrum of each column of sensor rows, bands first: P(k) = c(k) |X(k)|² / (Σ w)², where X is the DFT
    of w × x, and c is 1 at 0 Hz and at half the rate, else 2, so that a sine of amplitude a has a²/2.

    `edges_hz` are the limits of bands, whose powers are summed (low ≤ f < high); without them each line stands alone.
    `value` is the power, its root (magnitude), or ln(power + floor).
    """

    sample_rate: Positive
    edges_hz: tuple[Annotated[float, Meta(ge=0)], ...] = ()
    value: Literal["magnitude", "power", "log_power"] = "log_power"
    taper: Literal["hann", "none"] = "hann"
    floor: Positive = 1e-12


class Standardize(Record, tag="standardize"):
    """(value - mean) / std of each column (the last axis) in float32. A missing value (NaN) is `fill` first; without
    it, values must not be missing. One number serves all columns.
    """

    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    fill: tuple[float, ...] | None = None


class OneHot(Record, tag="one_hot"):
    """Column `column` of a row gives way, where it stands, to one column per value of `values`: 1 at its own, else 0.

    One that is not among them is all zeros. Rows of strings become numbers, an empty string a missing one (NaN).
    """

    column: Annotated[int, Meta(ge=0)]
    values: tuple[float | str, ...]


PreprocessStep = (
    Resize | CenterCrop | Crop | Grey | ColorOrder | Normalize | ToLayout | FitLength | Resample | LogMel | Mfcc
    | Window | Detrend | FftFeatures | Standardize | OneHot
)  # fmt: skip
Preprocess = tuple[PreprocessStep, ...]
"""From raw sample to input tensor; the same steps run in calibration, evaluation and on the device."""


class Classify(Record, tag="classify"):
    """The best `top` classes of the first output, named by the bundle's labels; the outputs stay as they are.

    `softmax` turns scores into probabilities for the classes named, where the model itself ends in scores.
    """

    top: Annotated[int, Meta(ge=1)] = 1
    softmax: bool = False


class Priors(Record):
    """A grid of boxes that a head's numbers are changes of: one set for each of `rows` × `columns` cells, row by row,
    around the cell's middle; `boxes` are width and height in shares of the input."""

    rows: Side
    columns: Side
    boxes: Annotated[tuple[tuple[Positive, Positive], ...], Meta(min_length=1)]


class Detect(Record, tag="detect"):
    """Boxes of the outputs, in pixels of the model's input, overlapping ones of a class removed.

    `layout` is how one sample's answer lies: "rows" is anchors × (4 + classes), "columns" (4 + classes) × anchors,
    "pair" two outputs, anchors × 4 and anchors × classes; "selected" is boxes × (4, score, class number), of which
    none is removed. Boxes are corners (xyxy, yxyx) or middle and size (cxcywh, cycxhw), in pixels, or 0..1 of the
    input where `normalized`. `sigmoid` or `softmax` turns scores into 0..1. With `objectness` a score stands between
    box and classes, by which theirs are multiplied; with `background` the first class is none. A box and class stay
    from `score_threshold` on, unless a better one of that class overlaps them by more than `iou_threshold`.

    With `priors`, middle and size are changes of theirs: middle + variance × change × size, and size ×
    exp(variance × change); `variances` are for x, y, width and height.
    """

    layout: Literal["rows", "columns", "pair", "selected"]
    box_format: Literal["xyxy", "cxcywh", "yxyx", "cycxhw"]
    normalized: bool = False
    sigmoid: bool = False
    score_threshold: Ratio = 0.25
    iou_threshold: Ratio = 0.5
    most: Annotated[int, Meta(ge=1, le=1000)] = 100
    softmax: bool = False
    objectness: bool = False
    background: bool = False
    priors: tuple[Priors, ...] = ()
    variances: tuple[Positive, Positive, Positive, Positive] = (0.1, 0.1, 0.2, 0.2)


class Segment(Record, tag="segment"):
    """The class of each pixel of the raw image: of the cell of the first output under its middle. The class with the
    highest score, where classes are the first ("planes") or last ("pixels") of three axes, the first of equal ones;
    a lone one is class 1 where its score reaches `threshold`, else 0. "numbers" are classes already. `background` is
    not told.
    """

    layout: Literal["planes", "pixels", "numbers"]
    threshold: float = 0.5
    background: Count | None = 0


class Keypoints(Record, tag="keypoints"):
    """Named points, in pixels of the raw image, with scores from `score_threshold` on. "direct" is points × (x, y) or
    (x, y, score), in the other order where `order` is yx, in pixels of the input, or 0..1 of it where `normalized`.
    "heat_maps" is points × height × width: the middle of the cell of the highest score.
    """

    form: Literal["direct", "heat_maps"]
    order: Literal["xy", "yx"] = "xy"
    normalized: bool = False
    score_threshold: float = 0.3


class Anomaly(Record, tag="anomaly"):
    """Whether a sample is unlike what the model knows: a score of `threshold` or more. The score is the mean of the
    squares (mse) or sizes (mae) of what the first output differs by from the model's input, after all preprocessing,
    also that which moved into the graph; or the first output's only number ("output").
    """

    of: Literal["mse", "mae", "output"]
    threshold: float


PostprocessStep = Classify | Detect | Segment | Keypoints | Anomaly
Postprocess = tuple[PostprocessStep, ...]
"""From output tensors to the answer."""


class PreprocessFile(Document):
    """What a person writes to say how a model wants its input, and how its answer is read: `[[preprocess]]` and
    `[[postprocess]]` tables in TOML, and a `[flow]`.
    """

    preprocess: Preprocess
    postprocess: Postprocess = ()
    flow: Flow | None = None


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
