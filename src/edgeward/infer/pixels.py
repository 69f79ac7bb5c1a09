"""Images: other sizes, parts and colours, and what cameras send in place of RGB."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.geometry import crop_edges, inner_size
from edgeward.kit.errors import WrongInput
from edgeward.records.model import CenterCrop, Crop, Grey, Resize

Array = NDArray[Any]
PixelFormat = Literal["YUYV", "UYVY", "NV12", "NV21", "I420", "GREY", "RGB24", "BGR24"]
"""How a camera's bytes lie, by the names that Linux has for them."""

_PAD_GREY = 114  # what letterboxing detectors are trained with
_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""The shares of red and blue in the brightness."""

_MOST_CHANNELS = 4


def resize(image: Array, step: Resize) -> Array:
    if image.shape[:2] == (step.height, step.width):
        return image
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] > _MOST_CHANNELS:
        shape = "x".join(map(str, image.shape))
        raise WrongInput(
            f"an image of another size is scaled from bytes of height x width x 1 to 4, got {shape} {image.dtype}"
        )
    height, width = image.shape[:2]
    if not step.keep_aspect:
        return _scaled(image, step.height, step.width)
    inner_height, inner_width = inner_size(step, height, width)
    top, left = (step.height - inner_height) // 2, (step.width - inner_width) // 2
    canvas = np.full((step.height, step.width, image.shape[2]), _PAD_GREY, np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _scaled(image, inner_height, inner_width)
    return canvas


def _scaled(image: Array, height: int, width: int) -> Array:
    from PIL import Image

    squeezed = image[:, :, 0] if image.shape[2] == 1 else image
    resized = Image.fromarray(squeezed).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8).reshape(height, width, image.shape[2])


def center_crop(image: Array, step: CenterCrop) -> Array:
    height, width = image.shape[:2]
    if height < step.height or width < step.width:
        raise WrongInput(f"center_crop wants at least {step.height}x{step.width}, the image is {height}x{width}")
    top, left = (height - step.height) // 2, (width - step.width) // 2
    return image[top : top + step.height, left : left + step.width]


def crop(image: Array, step: Crop) -> Array:
    left, top, right, bottom = crop_edges(step, *image.shape[:2])
    return image[top:bottom, left:right]


def grey(image: Array, step: Grey) -> Array:
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        shape = "x".join(map(str, image.shape))
        raise WrongInput(f"grey wants bytes of height x width x 1 or 3, the sample is {shape} {image.dtype}")
    if image.shape[2] == 3:
        from PIL import Image

        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return np.repeat(image, 3, axis=2) if step.channels == 3 else image


def rgb_of(
    data: Any,
    pixels: PixelFormat,
    height: int,
    width: int,
    *,
    matrix: Literal["bt601", "bt709"] = "bt601",
    full_range: bool = False,
) -> NDArray[np.uint8]:
    """A camera's frame (bytes without padding at the ends of rows) as RGB, height × width × 3; one channel for "GREY".

    Y'CbCr as ITU-R BT.601 or BT.709 has it, in 16..235 and 16..240, or 0..255 where `full_range`; halved chroma is
    repeated. Raises WrongInput for bytes of another size and for odd sizes where chroma is halved.
    """  # fmt: skip
    raw = np.frombuffer(data, np.uint8)
    size = height * width * {"GREY": 2, "RGB24": 6, "BGR24": 6, "YUYV": 4, "UYVY": 4}.get(pixels, 3) // 2
    halved = (1, 2) if pixels in ("YUYV", "UYVY") else (2, 2) if pixels in ("NV12", "NV21", "I420") else (1, 1)
    if raw.size != size or height % halved[0] or width % halved[1]:
        raise WrongInput(f"a frame of {width}x{height} in {pixels} is {size} bytes and even in size, got {raw.size}")
    if pixels == "GREY":
        return raw.reshape(height, width, 1)
    if pixels in ("RGB24", "BGR24"):
        image = raw.reshape(height, width, 3)
        return image if pixels == "RGB24" else image[..., ::-1]
    return _from_ycbcr(_ycbcr(raw, pixels, height, width), _to_rgb(matrix, full_range=full_range))


def _ycbcr(raw: NDArray[np.uint8], pixels: PixelFormat, height: int, width: int) -> NDArray[np.uint8]:
    """Y, Cb and Cr of every pixel."""
    whole = np.empty((height, width, 3), np.uint8)
    if pixels in ("YUYV", "UYVY"):
        pairs = raw.reshape(height, width // 2, 4)
        luma, first = (0, 1) if pixels == "YUYV" else (1, 0)
        whole[..., 0] = pairs[..., luma::2].reshape(height, width)
        whole[:, 0::2, 1:] = whole[:, 1::2, 1:] = pairs[..., first::2]
        return whole
    cells = height * width
    whole[..., 0] = raw[:cells].reshape(height, width)
    rest = raw[cells:]
    if pixels == "I420":
        chroma = rest.reshape(2, height // 2, width // 2).transpose(1, 2, 0)
    else:
        chroma = rest.reshape(height // 2, width // 2, 2)[..., :: 1 if pixels == "NV12" else -1]
    for row in (0, 1):
        for column in (0, 1):
            whole[row::2, column::2, 1:] = chroma
    return whole


def _to_rgb(matrix: Literal["bt601", "bt709"], *, full_range: bool) -> tuple[float, ...]:
    """Red, green and blue, each from Y, Cb and Cr and 1."""
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    luma, chroma, low = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    of_cr, of_cb = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    rows = ((0.0, of_cr), (-of_cb * blue / green, -of_cr * red / green), (of_cb, 0.0))
    return tuple(number for cb, cr in rows for number in (luma, cb, cr, -luma * low - 128 * (cb + cr)))


def _from_ycbcr(whole: NDArray[np.uint8], matrix: tuple[float, ...]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(whole).convert("RGB", matrix))
