"""Files to raw samples: images (uint8, height × width × channel), recordings (float32 in -1..1), arrays as they are."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput

_ORIENTATION = 0x0112  # the EXIF tag

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})


def read_image(path: Path, *, channels: int) -> NDArray[np.uint8]:
    """Height × width × channels, RGB or grey, turned upright. Raises WrongInput for a file that is no image."""
    return decode_image(path, str(path), channels=channels, hint=f"remove it, or replace it: {path}")


def decode_image(
    file: Path | BinaryIO, name: str, *, channels: int, hint: str | None = None, most_bytes: int | None = None
) -> NDArray[np.uint8]:
    """The same for a file or what was read of one; `name` is what a fault calls it. An image that would have more than
    `most_bytes` is refused before it is decoded."""
    from PIL import Image, UnidentifiedImageError

    if channels not in (1, 3):
        raise WrongInput(f"{name}: images have 1 or 3 channels, the model wants {channels}", hint="use an .npz")
    try:
        with Image.open(file) as image:
            if most_bytes is not None and (size := image.width * image.height * channels) > most_bytes:
                raise WrongInput(f"{name}: this image has {size} bytes of pixels, {most_bytes} are taken")
            pixels = np.asarray(_upright(image).convert("L" if channels == 1 else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise WrongInput(f"{name}: this image cannot be decoded", hint=hint) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _upright(image: Any) -> Any:
    """Turned as its EXIF orientation says (1, or none: as it is)."""
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """The waveform in -1..1, channels averaged to mono, and its sample rate in Hz. Takes PCM of 8, 16, 24, 32 bits."""
    with path.open("rb") as file:
        return decode_wav(file, str(path))


def decode_wav(file: BinaryIO, name: str) -> tuple[NDArray[np.float32], int]:
    """The same for what was read of a file; `name` is what a fault calls it."""
    import wave  # each kind of sample pays for its own reader

    try:
        with wave.open(file, "rb") as opened:
            rate, channels, width = opened.getframerate(), opened.getnchannels(), opened.getsampwidth()
            data = opened.readframes(opened.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise WrongInput(f"{name}: this is no PCM WAV file ({error or 'it ends too early'})") from error
    if width not in (1, 2, 3, 4):
        raise WrongInput(f"{name}: its samples have {8 * width} bits; wanted 8, 16, 24 or 32")
    usable = data[: len(data) - len(data) % (width * channels)]
    if not usable:
        raise WrongInput(f"{name}: this recording is empty")
    return from_pcm(usable, width).reshape(-1, channels).mean(axis=1, dtype=np.float32), rate


def from_pcm(data: bytes, width: int) -> NDArray[np.float32]:
    """Samples of `width` bytes as numbers in -1..1."""
    match width:
        case 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
        case 3:
            widened = np.zeros((len(data) // 3, 4), np.uint8)
            widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return widened.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
        case _:
            scale = 2 ** (8 * width - 1)
            return np.frombuffer(data, f"<i{width}").astype(np.float32) / np.float32(scale)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file. Raises WrongInput for what is no .npz, and for arrays of Python objects."""
    return decode_npz(path, str(path))


def decode_npz(file: Path | BinaryIO, name: str) -> dict[str, NDArray[Any]]:
    """The same for a file or what was read of one; `name` is what a fault calls it."""
    import zipfile  # each kind of sample pays for its own reader

    try:
        loaded = np.load(file, allow_pickle=False)
        if not hasattr(loaded, "files"):
            raise WrongInput(f"{name}: this is a single .npy array; wanted an .npz", hint="np.savez(path, x=array)")
        with loaded as archive:
            return {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise WrongInput(f"{name}: this is no readable .npz ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "it holds Python objects" if "allow_pickle" in text else (text[:120] or "it is empty")
