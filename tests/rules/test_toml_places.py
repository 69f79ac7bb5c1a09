"""Where something is said in a TOML text."""

import pytest

from edgeward.kit.toml_places import path_of, place_of

TEXT = """[run]
url = "not this one"

[[pipeline]]
name = "url"          # a comment with url = 1
source = { use = "rtsp", url = "rtsp://camera" }
sinks = [{ use = "jsonl", path = "a" },
  { "use" = "mqtt", url = "mqtt://host" }]

[[pipeline]]
name = "other"
[pipeline.source]
use = "files"
  path.text = "[[pipeline]]"
"""


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("pipeline", 0, "source", "url"), 6, 26),
        (("pipeline", 0, "name"), 5, 1),
        (("pipeline", 0, "sinks", 0, "path"), 7, 27),
        (("pipeline", 0, "sinks", 1, "use"), 8, 5),
        (("pipeline", 0, "sinks", 1, "url"), 8, 21),
        (("pipeline", 0, "sinks", 1), 8, 3),
        (("pipeline", 1), 10, 1),
        (("pipeline", 1, "source", "path"), 14, 3),
        (("pipeline", 1, "source", "use"), 13, 1),
        (("pipeline", 1, "source", "missing"), 12, 11),
        (("run", "url"), 2, 1),
        (("nowhere",), 1, 1),
    ],
)
def test_each_key_and_table_is_found_where_a_person_wrote_it(path, line, column):
    assert place_of(TEXT, path) == (line, column)


def test_a_path_is_read_from_the_words_of_a_fault():
    assert path_of("[0].sinks[1].url") == (0, "sinks", 1, "url")
    assert path_of("[0].source[...]") == (0, "source")
