"""What a bundle says of its pace, and what a pipeline says against it."""

from pathlib import Path

import msgspec
import pytest

from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.bundle import Manifest
from edgeward.records.flow import Flow
from edgeward.records.model import PreprocessFile
from edgeward.records.pipeline import Batching, Pipeline, QueueOptions, flowing

PACKED = Flow(queue_size=4, queue_policy="all", batch_size=8, batch_deadline_ms=5.0, skip_unchanged=0.1)


def pipeline(**said):
    return Pipeline(name="door", bundle="b", source={"use": "files"}, **said)


def test_the_bundle_says_it_where_nobody_else_does():
    wanted = (QueueOptions(size=4, policy="all"), Batching(size=8, deadline_ms=5.0), 0.1)
    assert flowing(None, PACKED) == wanted
    assert flowing(pipeline(), PACKED) == wanted
    assert flowing(pipeline(), None) == (QueueOptions(), None, None)


def test_the_pipeline_beats_it_word_by_word():
    said = pipeline(queue=QueueOptions(size=2), batch=Batching(size=3, deadline_ms=1.0), skip_unchanged=0.0)
    assert flowing(said, PACKED) == (QueueOptions(size=2, policy="all"), Batching(size=3, deadline_ms=1.0), 0.0)


def test_a_flow_is_written_beside_the_steps_and_a_slip_is_told(tmp_path: Path):
    path = tmp_path / "steps.toml"
    path.write_text("preprocess = []\n[flow]\nqueue_size = 4\n")
    assert codec.from_toml(path, PreprocessFile).flow == Flow(queue_size=4)
    for wrong in ("queue_size = 0", "queue_policy = 'newest'", "size = 4"):
        path.write_text(f"preprocess = []\n[flow]\n{wrong}\n")
        with pytest.raises(WrongInput, match=str(path)):
            codec.from_toml(path, PreprocessFile)


def test_a_manifest_without_one_is_read_as_before():
    field = next(one for one in msgspec.structs.fields(Manifest) if one.name == "flow")
    assert field.default is msgspec.UNSET, "and none is written: its bytes, and so its digest, are as before"
