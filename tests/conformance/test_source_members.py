"""One suite over every source: dropping in a file brings its tests."""

import msgspec
import pytest

from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.records.base import Document
from edgeward.records.model import TensorSpec
from edgeward.serve import sources
from edgeward.serve.parts import Misfit, source_of
from edgeward.serve.sources import Wanted

WANTED = Wanted("digits", "image", (TensorSpec(name="x", dtype="uint8", shape=(8, 8, 1)),))


@pytest.fixture(params=sources.names())
def name(request: pytest.FixtureRequest) -> str:
    try:
        sources.load(request.param)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return str(request.param)


def test_its_options_are_a_document_whose_first_field_is_text_that_must_be_said(name):
    options = sources.load(name).options
    assert issubclass(options, Document)
    first = msgspec.structs.fields(options)[0]
    assert first.required
    assert msgspec.convert({first.name: "somewhere"}, options)


def test_it_says_its_pace(name):
    part = source_of(f"{name}:somewhere")
    assert part.member.pace(part.options) in ("on demand", "newest", "each")


def test_an_unknown_option_is_told_with_those_that_there_are(name):
    first = msgspec.structs.fields(sources.load(name).options)[0].name
    with pytest.raises(Misfit, match=f"no colour; allowed are .*{first}"):
        source_of({"use": name, first: "somewhere", "colour": "red"})


@pytest.mark.parametrize("address", ["/nowhere/at/all", "", "127.0.0.1:1/none", "\x00", "a b?c=d"])
def test_what_is_not_there_is_one_clear_sentence(name, address):
    with pytest.raises(EdgewardError) as told:
        first_of(f"{name}:{address}")
    assert "Traceback" not in told.value.message
    assert "\n" not in told.value.message


def first_of(said):
    part = source_of(said)
    stream = part.member.open(part.options, WANTED)
    try:
        return next(iter(stream))
    finally:
        stream.close()
