"""Options of the benchmarks."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overload-s", type=float, default=60.0, help="how long the live overload lasts")
