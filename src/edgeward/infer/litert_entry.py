"""A LiteRT file that takes bytes and makes int8 of them first, changed in memory so that the bytes enter as int8.

LiteRT runs that first QUANTIZE element by element outside of XNNPACK: on a frame it takes as long as a convolution,
where flipping the sign bit of each byte in numpy takes next to nothing. The file itself stays as it is, for everybody.
Read and changed by the layout of flatbuffers and the field numbers of LiteRT's schema (schema.fbs, version 3).
"""

import struct
from collections.abc import Iterator

_OPERATOR_CODES, _SUBGRAPHS = 1, 2
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
_SHAPE, _TYPE, _QUANTIZATION = 0, 1, 4
_SCALE, _ZERO_POINT = 2, 3
_OLD_CODE, _CODE = 0, 3
_CODE_INDEX, _READS, _WRITES = 0, 1, 2
_QUANTIZE = 114
_UINT8, _INT8 = 3, 9
_HALF = 128


class _File:
    """The bytes of a flatbuffer; positions are of tables, vectors and fields in it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(f"<{kind}", self.data, at)[0])

    def follow(self, at: int) -> int:
        return at + self.number("I", at)

    def field(self, table: int, number: int) -> int | None:
        """Where a field of a table stands; None where it has its default value."""
        names = table - self.number("i", table)
        entry = 4 + 2 * number
        offset = self.number("H", names + entry) if entry < self.number("H", names) else 0
        return table + offset if offset else None

    def child(self, table: int, number: int) -> int | None:
        at = self.field(table, number)
        return None if at is None else self.follow(at)

    def entries(self, vector: int | None, size: int = 4) -> Iterator[int]:
        """Where the elements of a vector stand."""
        for index in range(0 if vector is None else self.number("I", vector)):
            yield vector + 4 + size * index  # type: ignore[operator]

    def tables(self, table: int, number: int) -> list[int]:
        return [self.follow(at) for at in self.entries(self.child(table, number))]

    def integers(self, table: int, number: int) -> list[int]:
        return [self.number("i", at) for at in self.entries(self.child(table, number))]


def entering_signed(model: bytes) -> bytes | None:
    """The model with its only input in int8 in place of uint8, each byte minus 128; None where it does not begin by
    making just that of it. `model` is one that LiteRT has loaded."""
    file = _File(model)
    try:
        return _changed(file)
    except (struct.error, IndexError):  # what leads out of the file: LiteRT reads what it needs, and no more
        return None


def _changed(file: _File) -> bytes | None:
    root = file.follow(0)
    graphs = file.tables(root, _SUBGRAPHS)
    if len(graphs) != 1:
        return None
    (graph,) = graphs
    tensors, operators = file.tables(graph, _TENSORS), file.tables(graph, _OPERATORS)
    inputs = file.integers(graph, _INPUTS)
    if len(inputs) != 1 or len(operators) < 2 or not _is_quantize(file, root, operators[0]):
        return None
    reads, writes = file.integers(operators[0], _READS), file.integers(operators[0], _WRITES)
    if reads != inputs or len(writes) != 1 or writes[0] in file.integers(graph, _OUTPUTS):
        return None
    source, signed = tensors[inputs[0]], tensors[writes[0]]
    lists = {file.child(operator, _READS) for operator in operators[1:]}
    others = {file.child(tensor, _SHAPE) for tensor in tensors} | {file.child(one, _WRITES) for one in operators}
    if not _is_shifted(file, source, signed) or lists & others or _is_shared(file, source, tensors):
        return None
    if any(inputs[0] in file.integers(operator, _READS) for operator in operators[1:]):
        return None
    _state(file, source, _zero_of(file, signed))
    for operator in operators[1:]:
        for at in file.entries(file.child(operator, _READS)):
            if file.number("i", at) == writes[0]:
                struct.pack_into("<i", file.data, at, inputs[0])
    _drop_first(file, graph)
    return bytes(file.data)


def _is_quantize(file: _File, root: int, operator: int) -> bool:
    at = file.field(operator, _CODE_INDEX)
    code = file.tables(root, _OPERATOR_CODES)[0 if at is None else file.number("I", at)]
    new, old = file.field(code, _CODE), file.field(code, _OLD_CODE)
    return max(0 if new is None else file.number("i", new), 0 if old is None else file.number("b", old)) == _QUANTIZE


def _is_shifted(file: _File, source: int, signed: int) -> bool:
    """Whether the int8 tensor holds the uint8 one's values minus 128."""
    types = [0 if (at := file.field(tensor, _TYPE)) is None else file.data[at] for tensor in (source, signed)]
    scaled = [file.child(tensor, _QUANTIZATION) for tensor in (source, signed)]
    if types != [_UINT8, _INT8] or None in scaled:
        return False
    scales = [[file.number("I", at) for at in file.entries(file.child(one, _SCALE))] for one in scaled if one]
    counts = [file.number("I", file.child(one, _ZERO_POINT) or 0) for one in scaled if one]
    same = scales[0] == scales[1] and len(scales[0]) == 1 and counts == [1, 1]
    return same and _zero_of(file, source) - _zero_of(file, signed) == _HALF


def _zero_of(file: _File, tensor: int) -> int:
    vector = file.child(file.child(tensor, _QUANTIZATION) or 0, _ZERO_POINT) or 0
    return file.number("q", vector + 4)


def _is_shared(file: _File, source: int, tensors: list[int]) -> bool:
    """Whether other tensors have their scales in the same place as this one."""
    return [file.child(tensor, _QUANTIZATION) for tensor in tensors].count(file.child(source, _QUANTIZATION)) > 1


def _state(file: _File, tensor: int, zero_point: int) -> None:
    """The tensor is int8 with this zero point, which stands at the file's end: writers let equal vectors share."""
    file.data[file.field(tensor, _TYPE) or 0] = _INT8
    at = file.field(file.child(tensor, _QUANTIZATION) or 0, _ZERO_POINT) or 0
    file.data += bytes(-(len(file.data) + 4) % 8)
    struct.pack_into("<I", file.data, at, len(file.data) - at)
    file.data += struct.pack("<Iq", 1, zero_point)


def _drop_first(file: _File, graph: int) -> None:
    """The vector of operators begins one entry later: its elements are offsets from where they stand."""
    at = file.field(graph, _OPERATORS)
    assert at is not None  # noqa: S101 - it has been read
    vector = file.follow(at)
    struct.pack_into("<I", file.data, vector + 4, file.number("I", vector) - 1)
    struct.pack_into("<I", file.data, at, file.number("I", at) + 4)
