"""Any value that a record's types allow, drawn for hypothesis from what msgspec knows of them."""

from datetime import UTC
from typing import Any

import msgspec.inspect as types
from hypothesis import strategies as st


def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Values of `kind`, within every limit that decoding would enforce."""
    return _values(types.type_info(kind))


def _values(kind: Any) -> st.SearchStrategy[Any]:
    match kind:
        case types.StructType():
            return st.builds(kind.cls, **{field.name: _values(field.type) for field in kind.fields})
        case types.UnionType():
            return st.one_of([_values(one) for one in kind.types])
        case types.NoneType():
            return st.none()
        case types.AnyType():
            return st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=9), st.lists(st.integers(-9, 9)))
        case types.BoolType():
            return st.booleans()
        case types.IntType():
            return st.integers(kind.ge if kind.ge is not None else -(2**53), kind.le if kind.le is not None else 2**53)
        case types.FloatType():
            low = kind.ge if kind.ge is not None else kind.gt
            return st.floats(low, kind.le, exclude_min=kind.gt is not None, allow_nan=False, allow_infinity=False)
        case types.StrType():
            return st.text(max_size=20) if kind.pattern is None else st.from_regex(kind.pattern, fullmatch=True)
        case types.LiteralType():
            return st.sampled_from(kind.values)
        case types.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case types.TupleType():
            return st.tuples(*(_values(one) for one in kind.item_types))
        case types.VarTupleType():
            least = kind.min_length or 0
            return st.lists(_values(kind.item_type), min_size=least, max_size=max(3, least)).map(tuple)
        case types.DictType():
            return st.dictionaries(_values(kind.key_type), _values(kind.value_type), max_size=3)
        case _:
            raise TypeError(f"no strategy for {kind}; add one here")
