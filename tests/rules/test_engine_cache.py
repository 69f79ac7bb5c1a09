"""An engine is run on the GPU and version it was built for, or not at all."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgeward.infer import engine_cache

BUILDER = engine_cache.Builder("tensorrt", "10.9.0", "NVIDIA Orin", "8.7", "0" * 64)
OTHERS = {
    "version": replace(BUILDER, version="10.10.0"), "device": replace(BUILDER, device="NVIDIA Thor"),
    "capability": replace(BUILDER, capability="8.9"), "model": replace(BUILDER, model="1" * 64),
}  # fmt: skip


@given(st.binary())
def test_what_was_kept_comes_back(engine):
    assert engine_cache.opened(engine_cache.sealed(BUILDER, engine), BUILDER) == engine


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_another_builders_engine_is_not_opened_and_has_another_name(other):
    assert engine_cache.opened(engine_cache.sealed(other, b"engine"), BUILDER) is None
    assert engine_cache.name_of(other) != engine_cache.name_of(BUILDER)


@given(st.binary(min_size=1), st.data())
def test_a_file_that_is_cut_or_changed_is_not_opened(engine, data):
    file = engine_cache.sealed(BUILDER, engine)
    place = data.draw(st.integers(0, len(file) - 1))
    changed = file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]
    assert engine_cache.opened(changed, BUILDER) is None
    assert engine_cache.opened(file[:place], BUILDER) is None


def test_the_folder_is_the_users_own(tmp_path):
    place = engine_cache.folder("tensorrt", {"XDG_CACHE_HOME": str(tmp_path)})
    assert place == tmp_path / "edgeward/engines/tensorrt"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert engine_cache.folder("tensorrt", {"XDG_CACHE_HOME": str(tmp_path)}) == place
