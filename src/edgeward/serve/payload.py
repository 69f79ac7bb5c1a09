"""Bytes that came over a wire to one sample: an image, a recording, arrays, numbers in JSON. Trusts nothing in them."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Sample
from edgeward.infer.samples import decode_image, decode_npz, decode_wav
from edgeward.kit.errors import WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve.arrival import Wanted

Payload = Literal["auto", "json", "npz", "raw", "image", "wav"]
"""How a message holds a sample. "raw" is the bytes of the model's only tensor, little-endian, without a header."""

LARGEST_BYTES = 256_000_000
"""What a message may unpack to."""

_MAGIC = {
    b"\xff\xd8\xff": "image", b"\x89PNG": "image", b"BM": "image", b"PK\x03\x04": "npz", b"RIFF": "wav",
}  # fmt: skip


def sample_of(
    data: bytes, source: str, wanted: Wanted, *, payload: Payload = "auto", fields: Sequence[str] = ()
) -> Sample:
    """`fields` names the numbers of a JSON object that make the tensor, in its order; "a.b" looks inside.

    Raises WrongInput, with the source's name, for what holds no such sample.
    """
    kind = _kind(data, wanted) if payload == "auto" else payload
    try:
        match kind:
            case "image":
                return _checked({wanted.inputs[0].name: _image(data, source, wanted)}, source, wanted, free=True)
            case "wav":
                return {wanted.inputs[0].name: _recording(data, source, wanted)}
            case "npz":
                _check_npz(data, source)
                return _checked(_named(decode_npz(BytesIO(data), source), source, wanted), source, wanted)
            case "json":
                return of_json(_decoded(data, source), source, wanted, fields)
            case _:
                return _raw(data, source, wanted)
    except (MemoryError, OverflowError, RecursionError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise WrongInput(f"{source}: this message cannot be unpacked ({type(error).__name__})") from error


def _kind(data: bytes, wanted: Wanted) -> str:
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[:64].lstrip()[:1] in (b"{", b"[") or _is_number(data):
        return "json"
    return "image" if wanted.kind == "image" and len(data) != _raw_size(wanted) else "raw"


def _is_number(data: bytes) -> bool:
    return len(data) <= 32 and data.strip().replace(b".", b"").replace(b"-", b"").replace(b"e", b"").isdigit()


def _image(data: bytes, source: str, wanted: Wanted) -> NDArray[Any]:
    if wanted.kind != "image":
        raise WrongInput(f"{source}: got an image, {wanted.name} takes {_words(wanted)}")
    return decode_image(BytesIO(data), source, channels=wanted.channels)


def _recording(data: bytes, source: str, wanted: Wanted) -> NDArray[Any]:
    if wanted.kind != "audio":
        raise WrongInput(f"{source}: got a recording, {wanted.name} takes {_words(wanted)}")
    wave, rate_hz = decode_wav(BytesIO(data), source)
    if wanted.sample_rate_hz not in (None, rate_hz):
        raise WrongInput(f"{source}: sampled at {rate_hz} Hz, {wanted.name} takes {wanted.sample_rate_hz} Hz")
    return wave


def _words(wanted: Wanted) -> str:
    return {"image": "images", "audio": "recordings", "tensor": "arrays"}[wanted.kind]


def _check_npz(data: bytes, source: str) -> None:
    """A few bytes may claim to unpack to very many."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            size = sum(one.file_size for one in archive.infolist())
    except (zipfile.BadZipFile, ValueError, UnicodeDecodeError) as error:
        raise WrongInput(f"{source}: this is no readable .npz") from error
    if size > LARGEST_BYTES:
        raise WrongInput(f"{source}: this .npz unpacks to {size} bytes; allowed are {LARGEST_BYTES}")


def _named(arrays: Mapping[str, Any], source: str, wanted: Wanted) -> dict[str, Any]:
    """By the model's names; one array alone serves a model with one input, whatever it is called."""
    if len(wanted.inputs) == 1 and len(arrays) == 1:
        return {wanted.inputs[0].name: next(iter(arrays.values()))}
    missing = [spec.name for spec in wanted.inputs if spec.name not in arrays]
    if missing:
        raise WrongInput(f"{source}: wanted {missing[0]!r}; it has {_listed(arrays)}")
    return {spec.name: arrays[spec.name] for spec in wanted.inputs}


def _listed(names: Any) -> str:
    shown = [str(name)[:40] for name in list(names)[:8]]
    return ", ".join(shown) or "none"


def _decoded(data: bytes, source: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{source}: this is no JSON: {error}") from error


def of_json(value: Any, source: str, wanted: Wanted, fields: Sequence[str] = ()) -> Sample:
    """A sample of decoded JSON: nested lists for the only input, or an object of them by the inputs' names."""
    if fields:
        value = [_field(value, name, source) for name in fields]
    if not isinstance(value, dict):
        value = {wanted.inputs[0].name: value}
    named = _named(value, source, wanted)
    return _checked({name: _array(one, name, source) for name, one in named.items()}, source, wanted)


def _field(value: Any, name: str, source: str) -> Any:
    for step in name.split("."):
        if not isinstance(value, dict) or step not in value:
            have = f"; it has {_listed(value)}" if isinstance(value, dict) else ""
            raise WrongInput(f"{source}: there is no {name!r} in this message{have}")
        value = value[step]
    return value


def _array(value: Any, name: str, source: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiubU":
        raise WrongInput(f"{source}: {name!r} is no array of numbers")
    return array


def _raw_size(wanted: Wanted) -> int | None:
    """Bytes of the only tensor; None where a dimension is free or there are several."""
    size = np.dtype(wanted.inputs[0].dtype).itemsize if _is_plain(wanted.inputs) else 0
    for dim in wanted.inputs[0].shape:
        size *= dim if isinstance(dim, int) else 0
    return size or None


def _is_plain(inputs: Sequence[TensorSpec]) -> bool:
    return len(inputs) == 1 and inputs[0].dtype not in ("string", "bfloat16")


def _raw(data: bytes, source: str, wanted: Wanted) -> Sample:
    spec = wanted.inputs[0]
    size = _raw_size(wanted)
    if size is None:
        raise WrongInput(f"{source}: bytes without a header serve a model with one input of a fixed shape")
    if len(data) != size:
        raise WrongInput(f"{source}: got {len(data)} bytes; wanted {size}, {spec.dtype} {_shape(spec.shape)}")
    array = np.frombuffer(data, np.dtype(spec.dtype).newbyteorder("<")).reshape(spec.shape)  # type: ignore[arg-type]
    return _checked({spec.name: array}, source, wanted)


def _checked(sample: dict[str, Any], source: str, wanted: Wanted, *, free: bool = False) -> Sample:
    """Each array in its input's dtype and shape (`free`: preprocessing makes the shape), every number finite."""
    return {spec.name: _fitted(sample[spec.name], spec, source, free=free) for spec in wanted.inputs}


def _fitted(array: NDArray[Any], spec: TensorSpec, source: str, *, free: bool) -> NDArray[Any]:
    if not free and array.shape != spec.shape and array.ndim == len(spec.shape) + 1 and array.shape[:1] == (1,):
        array = array[0]  # a batch of one, as inference servers take it
    fits = len(array.shape) == len(spec.shape) and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape, spec.shape, strict=True)
    )
    if not (fits or free):
        raise WrongInput(f"{source}: {spec.name!r} is {_shape(array.shape)}; wanted {_shape(spec.shape)}")
    if spec.dtype == "string":
        return array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WrongInput(f"{source}: {spec.name!r} holds a value that is not finite (NaN or infinity)")
    return cast(array, spec, source)


def cast(array: NDArray[Any], spec: TensorSpec, source: str) -> NDArray[Any]:
    """In the input's dtype, where no value is lost. Raises WrongInput else."""
    dtype = np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "fiub":
        raise WrongInput(f"{source}: {spec.name!r} is {array.dtype}; wanted {spec.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        made = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(made, array):
        raise WrongInput(f"{source}: {spec.name!r} is {spec.dtype}, and these values do not fit in it")
    return made


def _shape(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape)) or "one number"
