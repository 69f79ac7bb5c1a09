"""OpenVINO by its C interface, the headers openvino/c/*.h in its own wheels, with ctypes.

Its Python package takes 0.3 s and 23 MB to import and builds a dictionary for each answer, a twelfth of a small model's
time (decision 100).
"""

import base64
import ctypes
import importlib.util
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

# OpenVINO's thread library moves the calling thread to its own set of CPUs before each inference, and back behind it:
# three calls of the kernel, about 4 µs, for the same CPUs. Its library for that, hwloc, lets it be where it believes to
# read another machine. On Intel's CPUs of unequal cores the moving has a sense, and stays. Read when the first model is
# loaded.
if not os.path.exists("/sys/devices/cpu_core"):  # noqa: PTH110 - pathlib is a slower import
    os.environ.setdefault("HWLOC_THISSYSTEM", "0")

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.records.model import Dtype

_ONNX: dict[int, Dtype] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
_OPTIMIZED_OUT = 1
_BODIES = (b'"\x02If', b'"\x04Loop', b'"\x04Scan')
"""How ONNX files spell operators with graphs of their own, whose shapes OpenVINO does not tell of."""


class Fault(Exception):
    """What OpenVINO says of a call that failed."""


class Port(NamedTuple):
    """An input or output: a free dimension is None. `dtype` is None where it is no number of ours."""

    name: str
    dtype: Dtype | None
    dims: tuple[int | None, ...]


class Node(NamedTuple):
    """One of a compiled model: the operator, and the kernel that runs it, such as "jit_avx2_I8"."""

    operator: str
    kernel: str


class _Bounds(ctypes.Structure):
    """ov_dimension_t"""

    _fields_ = (("least", c_int64), ("most", c_int64))


class _PartialShape(ctypes.Structure):
    """ov_partial_shape_t"""

    _fields_ = (("rank", _Bounds), ("dims", POINTER(_Bounds)))


class _Shape(ctypes.Structure):
    """ov_shape_t"""

    _fields_ = (("rank", c_int64), ("dims", POINTER(c_int64)))


class _Profiled(ctypes.Structure):
    """ov_profiling_info_t"""

    _fields_ = (
        ("status", c_int), ("real_us", c_int64), ("cpu_us", c_int64), ("name", c_char_p), ("kernel", c_char_p),
        ("operator", c_char_p),
    )  # fmt: skip


class _AllProfiled(ctypes.Structure):
    """ov_profiling_info_list_t"""

    _fields_ = (("nodes", POINTER(_Profiled)), ("count", c_size_t))


class Model:
    """A model that was read, not yet compiled. Raises Fault for bytes that are none."""

    def __init__(self, data: bytes) -> None:
        if not data:
            raise Fault("it is empty")
        self._has_bodies = any(word in data for word in _BODIES)
        read, size = "ov_core_read_model_from_memory_buffer", c_size_t(len(data))
        self._handle = _made("ov_model_free", lambda handle: _call(read, core(), data, size, None, byref(handle)))
        self.inputs, self.outputs = self._ports("input"), self._ports("output")

    def _ports(self, side: str) -> tuple[Port, ...]:
        count = c_size_t()
        _call(f"ov_model_{side}s_size", self._handle, byref(count))
        return tuple(_port(f"ov_model_const_{side}_by_index", self._handle, index) for index in range(count.value))

    def compiled(self, shapes: Sequence[tuple[int, ...]], settings: Mapping[str, str]) -> "Request":
        """For the CPU and inputs of these shapes. Raises Fault where it cannot be."""
        self._reshape({place: shape for place, shape in enumerate(shapes) if None in self.inputs[place].dims})
        words = [c_char_p(word.encode()) for pair in settings.items() for word in pair]
        about = core(), self._handle, b"CPU", c_size_t(len(words))
        compiled = _made(
            "ov_compiled_model_free", lambda handle: _call("ov_core_compile_model", *about, byref(handle), *words)
        )
        may_fail = self._has_bodies or library().ov_model_is_dynamic(self._handle)
        request = Request(compiled, shapes, len(self.outputs), may_fail=may_fail)
        if [memory.shape for memory in request.inputs] != [*shapes]:
            raise Fault(f"its inputs are {[memory.shape for memory in request.inputs]}, wanted {[*shapes]}")
        return request

    def _reshape(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        """Of inputs by their places. A scalar must not be among them: this interface makes an empty vector of it."""
        if not shapes:
            return
        bounds = [(_Bounds * len(shape))(*[_Bounds(dim, dim) for dim in shape]) for shape in shapes.values()]
        wanted = (_PartialShape * len(shapes))(*[_PartialShape(_Bounds(len(one), len(one)), one) for one in bounds])
        places = (c_size_t * len(shapes))(*shapes)
        _call("ov_model_reshape_by_port_indexes", self._handle, places, wanted, c_size_t(len(shapes)))


class Request:
    """A compiled model with the memory of its inputs and outputs, for one run at a time. `outputs` is None where their
    shapes depend on the values. `infer()` runs it; it gives not 0 where that failed, and `complaint()` says why.
    """

    def __init__(self, compiled: c_void_p, shapes: Sequence[tuple[int, ...]], outputs: int, *, may_fail: bool) -> None:
        """`may_fail`: shapes inside it are found in a run, by values."""
        create = "ov_compiled_model_create_infer_request"
        self._handle = _made("ov_infer_request_free", lambda handle: _call(create, compiled, byref(handle)))
        self._ports = tuple(_port("ov_compiled_model_output_by_index", compiled, index) for index in range(outputs))
        self.inputs = tuple(self._array("input", index, len(shape)) for index, shape in enumerate(shapes))
        is_fixed = all(None not in port.dims for port in self._ports)
        self.outputs = self._all_outputs() if is_fixed else None
        run = partial(library().ov_infer_request_infer, self._handle)
        self.infer: Callable[[], int] = self._started_and_waited_for if may_fail else run

    def _started_and_waited_for(self) -> int:
        """On one thread the shorter way tells nobody of a run that failed, and what lies there is the answer before
        (2026.4). It takes 40 µs more."""
        loaded = library()
        return int(loaded.ov_infer_request_start_async(self._handle) or loaded.ov_infer_request_wait(self._handle))

    def results(self) -> list[NDArray[Any]]:
        """Copies of the outputs of the latest run."""
        return [array.copy() for array in self.outputs or self._all_outputs()]

    def nodes(self) -> list[Node]:
        """Those that were not optimised away, of a model that was compiled with PERF_COUNT and has run."""
        told = _AllProfiled()
        _call("ov_infer_request_get_profiling_info", self._handle, byref(told))
        try:
            return [
                Node(node.operator.decode(), node.kernel.decode())
                for node in told.nodes[: told.count]
                if node.status != _OPTIMIZED_OUT
            ]
        finally:
            library().ov_profiling_info_list_free(byref(told))

    def _all_outputs(self) -> tuple[NDArray[Any], ...]:
        return tuple(self._array("output", index, len(port.dims)) for index, port in enumerate(self._ports))

    def _array(self, side: str, index: int, rank: int) -> NDArray[Any]:
        """A view of what the request keeps, which it is kept for."""
        tensor, data, kind, shape = c_void_p(), c_void_p(), c_int(), _Shape()
        _call(f"ov_infer_request_get_{side}_tensor_by_index", self._handle, c_size_t(index), byref(tensor))
        try:
            _call("ov_tensor_get_element_type", tensor, byref(kind))
            if rank:  # a scalar's shape cannot be asked for
                _call("ov_tensor_get_shape", tensor, byref(shape))
            dims = tuple(shape.dims[: shape.rank])
            library().ov_shape_free(byref(shape))
            dtype = np.dtype(_dtypes()[kind.value])
            size = math.prod(dims) * dtype.itemsize
            if not size:
                return np.empty(dims, dtype)
            _call("ov_tensor_data", tensor, byref(data))
            memory: Any = (c_char * size).from_address(data.value or 0)
            memory.owner = self._handle
            return np.frombuffer(memory, dtype).reshape(dims)
        finally:
            library().ov_tensor_free(tensor)


@cache
def library() -> Any:
    """Raises ModuleNotFoundError where OpenVINO is not installed, Unsupported where its C library cannot be loaded."""
    found = importlib.util.find_spec("openvino")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")
    files = sorted(Path(found.submodule_search_locations[0], "libs").glob("libopenvino_c.so*"))
    if not files:
        raise Unsupported("this OpenVINO has no C library", hint="pip install --force-reinstall openvino")
    try:
        loaded = ctypes.CDLL(str(files[-1]))
    except OSError as error:
        raise Unsupported(f"OpenVINO's C library cannot be loaded: {error}") from error
    loaded.ov_infer_request_infer.argtypes = (c_void_p,)
    loaded.ov_get_last_err_msg.restype = c_char_p
    loaded.ov_model_is_dynamic.restype = c_bool
    return loaded


@cache
def core() -> c_void_p:
    """The one of this process, kept to its end.

    OpenVINO's CPU plug-in gives the thread that loads it an alternate signal stack. When the last model goes in another
    thread, that stack's memory goes with the plug-in, and the next signal to the first thread would be its end.
    """
    made = c_void_p()
    _call("ov_core_create", byref(made))
    return made


def version() -> str:
    class Version(ctypes.Structure):
        """ov_version_t"""

        _fields_ = (("build", c_char_p), ("description", c_char_p))

    told = Version()
    _call("ov_get_openvino_version", byref(told))
    try:
        return str(told.build.decode()).split("-")[0]
    finally:
        library().ov_version_free(byref(told))


def devices() -> tuple[str, ...]:
    """What OpenVINO could run on here, such as ("CPU", "GPU")."""

    class Devices(ctypes.Structure):
        """ov_available_devices_t"""

        _fields_ = (("names", POINTER(c_char_p)), ("count", c_size_t))

    told = Devices()
    _call("ov_core_get_available_devices", core(), byref(told))
    try:
        return tuple(name.decode() for name in told.names[: told.count])
    finally:
        library().ov_available_devices_free(byref(told))


def _call(function: str, *arguments: Any) -> None:
    if getattr(library(), function)(*arguments):
        raise Fault(complaint())


def complaint() -> str:
    """What OpenVINO says of the call that failed last in this process, without the places in its sources."""
    said = (library().ov_get_last_err_msg() or b"no reason was given").decode(errors="replace")
    lines = [line.strip() for line in said.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    return " ".join(" ".join(kept).split())[:300]


class _Handle(c_void_p):
    """Freed when nothing refers to it any more, be it a call or an array; at the end of the process by the kernel."""


def _made(free: str, make: Callable[[_Handle], None]) -> _Handle:
    handle = _Handle()
    make(handle)
    weakref.finalize(handle, getattr(library(), free), c_void_p(handle.value)).atexit = False
    return handle


def _port(function: str, owner: c_void_p, index: int) -> Port:
    port, name, kind, shape = c_void_p(), c_void_p(), c_int(), _PartialShape()
    _call(function, owner, c_size_t(index), byref(port))
    try:
        _call("ov_port_get_any_name", port, byref(name))
        told = ctypes.string_at(name.value or 0).decode()
        library().ov_free(name)
        _call("ov_port_get_element_type", port, byref(kind))
        _call("ov_port_get_partial_shape", port, byref(shape))
        if shape.rank.least != shape.rank.most:
            raise Unsupported(f"{told!r} may have any number of dimensions; wanted a fixed one")
        dims = tuple(dim.least if dim.least == dim.most else None for dim in shape.dims[: shape.rank.least])
        library().ov_partial_shape_free(byref(shape))
        return Port(told, _dtypes().get(kind.value), dims)
    finally:
        library().ov_output_const_port_free(port)


# y = Identity(x), float32, one free dimension, as ONNX.
_IDENTITY = "CAg6OQoQCgF4EgF5IghJZGVudGl0eRIBaVoQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQDQ=="


@cache
def _dtypes() -> dict[int, Dtype]:
    """By OpenVINO's number of an element type. The numbers change from release to release, so they are asked for: of
    models of one node, one of each ONNX type."""
    made = base64.b64decode(_IDENTITY)
    return {_kind_of(made.replace(b"\x08\x01\x12", bytes([8, number, 18]))): dtype for number, dtype in _ONNX.items()}


def _kind_of(model: bytes) -> int:
    handle, port, kind = c_void_p(), c_void_p(), c_int()
    _call("ov_core_read_model_from_memory_buffer", core(), model, c_size_t(len(model)), None, byref(handle))
    _call("ov_model_const_input_by_index", handle, c_size_t(0), byref(port))
    _call("ov_port_get_element_type", port, byref(kind))
    library().ov_output_const_port_free(port)
    library().ov_model_free(handle)
    return kind.value


library()
