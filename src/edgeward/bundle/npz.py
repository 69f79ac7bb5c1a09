"""Arrays to `.npz` bytes and back; the same arrays always give the same bytes, so they give the same digest."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Refused, WrongInput


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Uncompressed, sorted by name, with the date zip starts at. Raises WrongInput for arrays of Python objects."""
    import zipfile  # who runs a bundle reads none of this before its first answer

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, _to_npy(name, arrays[name]))
    return buffer.getvalue()


def from_npz(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays in verified bytes. Raises Refused when they are none."""
    import zipfile  # who runs a bundle reads none of this before its first answer

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise Refused(f"{what}: is no readable .npz") from error


def _to_npy(name: str, array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    if array.dtype == object and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    try:
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    except ValueError as error:
        raise WrongInput(f"the self-test's array {name!r} holds Python objects; wanted numbers") from error
    return buffer.getvalue()
