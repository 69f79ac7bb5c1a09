"""The manifest record as the first format wrote it."""

import json
from pathlib import Path

import pytest

GOOD = Path(__file__).parents[1] / "golden" / "bundle-v1-good"


@pytest.fixture
def golden_manifest():
    blobs = [path.read_bytes() for path in (GOOD / "blobs" / "sha256").iterdir()]
    return next(data for data in blobs if data.startswith(b"{") and "self_test" in json.loads(data))
