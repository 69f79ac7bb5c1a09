"""One suite over every sink: dropping in a file brings its tests."""

import msgspec
import pytest

from edgeward.kit.errors import Unsupported
from edgeward.records.base import Document
from edgeward.serve import sinks
from edgeward.serve.parts import Misfit, sink_of


@pytest.fixture(params=sinks.names())
def name(request: pytest.FixtureRequest) -> str:
    try:
        sinks.load(request.param)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return str(request.param)


def test_its_options_are_a_document(name):
    assert issubclass(sinks.load(name).options, Document)


def test_an_unknown_option_is_told_with_those_that_there_are(name):
    first = msgspec.structs.fields(sinks.load(name).options)[0].name
    with pytest.raises(Misfit, match=f"no colour; allowed are .*{first}"):
        sink_of({"use": name, "colour": "red"})
