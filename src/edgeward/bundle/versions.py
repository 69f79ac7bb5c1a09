"""Which versions of a runtime a bundle was proven with: ">=1.24,<2"."""

import operator
import re
from itertools import zip_longest

from edgeward.kit.errors import WrongInput

_TESTS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def accepts(allowed: str, version: str) -> bool:
    """Whether `version` keeps every limit in `allowed`; no limits allow all. Raises WrongInput for no such limits."""
    for clause in filter(None, (part.strip() for part in allowed.split(","))):
        found = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)", clause)
        if found is None:
            raise WrongInput(f"{clause!r} is no version limit; wanted such as '>=1.24,<2'")
        if not _TESTS[found[1]](_compare(version, found[2]), 0):
            return False
    return True


def same_major(version: str) -> str:
    """The limits to write for a bundle that was proven with `version`: any of its major version.

    Whether an older or newer one answers alike is for the self-test to say, not for a number.
    """
    major = [*_numbers(version), 0][0]
    return f">={major},<{major + 1}"


def _compare(one: str, other: str) -> int:
    """Below, at or above zero; only the leading numbers count, so 1.24.0+cpu equals 1.24."""
    for left, right in zip_longest(_numbers(one), _numbers(other), fillvalue=0):
        if left != right:
            return left - right
    return 0


def _numbers(version: str) -> list[int]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return [int(part) for part in leading[0].split(".")] if leading else []
