"""Parts and colours of images, against formulas written out and against other programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeward.infer import Preprocessor
from edgeward.infer.geometry import placement_of
from edgeward.infer.pixels import rgb_of
from edgeward.kit.errors import WrongInput
from edgeward.records.model import CenterCrop, Crop, Grey, Resize


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width):
    """Colours that change slowly, so that halved chroma says the same as whole one."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([40 + rows * 2, 60 + columns * 2, 200 - rows - columns], axis=-1).astype(np.uint8)


def test_grey_is_the_written_formula_and_pillow_s():
    image = picture(17, 23)
    made = Preprocessor((Grey(),))(image)
    red, green, blue = np.moveaxis(image.astype(np.int64), -1, 0)
    assert (made[..., 0] == (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536).all()
    assert (made[..., 0] == np.asarray(Image.fromarray(image).convert("L"))).all()


def test_grey_for_a_model_of_three_channels_repeats_it_and_keeps_a_grey_image():
    image = picture(5, 4)
    three = Preprocessor((Grey(channels=3),))(image)
    assert three.shape == (5, 4, 3)
    assert (three == Preprocessor((Grey(),))(image)).all()
    lone = picture(5, 4, channels=1)
    assert Preprocessor((Grey(),))(lone) is lone


@pytest.mark.parametrize("sample", [np.zeros(100, np.float32), np.zeros((4, 4, 3), np.float32), picture(4, 4, 4)])
def test_grey_refuses_what_is_no_picture(sample):
    with pytest.raises(WrongInput, match="grey wants bytes"):
        Preprocessor((Grey(),))(sample)


def test_a_crop_in_pixels_and_one_in_shares_take_the_same_part():
    image = picture(40, 60)
    shares = Crop(left=0.25, top=0.1, right=0.75, bottom=0.9, relative=True)
    pixels = Crop(left=15, top=4, right=45, bottom=36)
    assert (Preprocessor((shares,))(image) == image[4:36, 15:45]).all()
    assert (Preprocessor((pixels,))(image) == image[4:36, 15:45]).all()


@pytest.mark.parametrize(
    "step",
    [
        Crop(left=0, top=0, right=61, bottom=10),
        Crop(left=10, top=0, right=10, bottom=10),
        Crop(left=0, top=30, right=10, bottom=20),
        Crop(left=0, top=0, right=0.001, bottom=1, relative=True),
        Crop(left=0, top=0, right=1.2, bottom=1, relative=True),
    ],
)
def test_a_crop_that_is_no_part_of_the_image_is_refused(step):
    with pytest.raises(WrongInput, match=r"crop wants columns \d+ to \d+ and rows \d+ to \d+ of an image of 40x60"):
        Preprocessor((step,))(picture(40, 60))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 90), width=st.integers(20, 90), left=st.floats(0, 0.4), top=st.floats(0, 0.4),
    side=st.integers(8, 64), keep=st.booleans(), seed=st.integers(0, 3),
)  # fmt: skip
def test_a_box_in_the_model_s_input_comes_back_to_its_pixels_through_crops_and_sizes(
    height, width, left, top, side, keep, seed
):
    steps = (
        Crop(left=left, top=top, right=left + 0.5, bottom=top + 0.5, relative=True),
        Resize(height=side, width=side + 6, keep_aspect=keep),
        CenterCrop(height=side - 2, width=side - 2),
    )
    placed = placement_of(steps, height, width)
    row, column = np.random.default_rng(seed).uniform(0, 1, 2) * (height, width)
    there = [column * placed.scale[0] + placed.offset[0], row * placed.scale[1] + placed.offset[1]]
    box = np.array([[*there, *there]])
    assert np.allclose(placed.to_raw(box), [[column, row, column, row]], atol=1e-6)
    assert Preprocessor(steps)(picture(height, width)).shape[:2] == (placed.height, placed.width)


def to_ycbcr(image, matrix, full_range):
    """ITU-R BT.601 and BT.709, from their definition."""
    red_share, blue_share = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    red, green, blue = np.moveaxis(image / 255, -1, 0)
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    cb, cr = (blue - luma) / (2 * (1 - blue_share)), (red - luma) / (2 * (1 - red_share))
    if full_range:
        planes = luma * 255, cb * 255 + 128, cr * 255 + 128
    else:
        planes = luma * 219 + 16, cb * 224 + 128, cr * 224 + 128
    return np.clip(np.stack(planes, axis=-1).round(), 0, 255).astype(np.uint8)


def laid(ycbcr, pixels):
    """As a camera sends it."""
    luma, chroma = ycbcr[..., 0], ycbcr[..., 1:]
    if pixels in ("YUYV", "UYVY"):
        pairs = np.stack([luma[:, 0::2], chroma[:, 0::2, 0], luma[:, 1::2], chroma[:, 0::2, 1]], axis=-1)
        return (pairs if pixels == "YUYV" else pairs[..., [1, 0, 3, 2]]).tobytes()
    fewer = chroma[0::2, 0::2]
    if pixels == "I420":
        return luma.tobytes() + fewer[..., 0].tobytes() + fewer[..., 1].tobytes()
    return luma.tobytes() + (fewer if pixels == "NV12" else fewer[..., ::-1]).tobytes()


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("pixels", ["YUYV", "UYVY", "NV12", "NV21", "I420"])
def test_what_a_camera_sends_comes_back_as_the_colours_that_it_saw(pixels, matrix, full_range):
    image = smooth(24, 32)
    sent = laid(to_ycbcr(image.astype(np.float64), matrix, full_range), pixels)
    seen = rgb_of(sent, pixels, 24, 32, matrix=matrix, full_range=full_range)
    assert np.abs(seen.astype(int) - image).max() <= 6  # halved chroma, eight bits of each


def test_whole_chroma_in_full_range_is_that_of_a_jpeg():
    image = picture(8, 8)[:, ::2].repeat(2, axis=1)  # pairs of equal pixels: halving loses nothing
    ycbcr = np.asarray(Image.fromarray(image).convert("YCbCr"))
    seen = rgb_of(laid(ycbcr, "YUYV"), "YUYV", 8, 8, full_range=True)
    assert np.abs(seen.astype(int) - np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))).max() <= 1


def test_frames_that_need_no_arithmetic_are_taken_as_they_are():
    image = picture(6, 5)
    assert (rgb_of(image.tobytes(), "RGB24", 6, 5) == image).all()
    assert (rgb_of(image[..., ::-1].tobytes(), "BGR24", 6, 5) == image).all()
    assert rgb_of(image[..., 0].tobytes(), "GREY", 6, 5).shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("pixels", "height", "width", "size"), [("YUYV", 4, 4, 31), ("NV12", 3, 4, 18), ("YUYV", 4, 3, 24)]
)
def test_a_frame_of_another_size_is_refused(pixels, height, width, size):
    with pytest.raises(WrongInput, match=f"a frame of {width}x{height} in {pixels} is"):
        rgb_of(bytes(size), pixels, height, width)
