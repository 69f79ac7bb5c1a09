"""docs/preprocessing.md shows every step there is, as it is read."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edgeward.infer import Preprocessor
from edgeward.infer.stream import begin
from edgeward.kit import codec
from edgeward.records.model import PostprocessStep, PreprocessFile, PreprocessStep
from edgeward.records.pipeline import Pipeline
from edgeward.records.stream import StreamStep

PAGE = (Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
KINDS = [*get_args(PreprocessStep), *get_args(PostprocessStep), *get_args(StreamStep)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.findall(r'type = "(\w+)"', text)[0])
def test_an_example_is_read_and_its_steps_can_be_applied(example, tmp_path):
    if "[[pipeline]]" in example:
        (pipeline,) = msgspec.convert(tomllib.loads(example)["pipeline"], list[Pipeline])
        begin(pipeline.follow)
        return
    file = tmp_path / "steps.toml"
    file.write_text(example if "[[preprocess]]" in example else "preprocess = []\n" + example)
    Preprocessor(codec.from_toml(file, PreprocessFile).preprocess)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_step_has_a_row_with_all_its_fields_and_an_example(kind):
    tag = kind.__struct_config__.tag
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{tag}` |")]
    assert rows
    assert not [field for field in kind.__struct_fields__ if not any(f"`{field}`" in row for row in rows)]
    assert any(f'type = "{tag}"' in example for example in EXAMPLES)
