"""Records survive the wire; old readers take new writers; what people write is read strictly."""

import importlib
import json
import pkgutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import instances

import edgeward.records
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.base import Document, Record
from edgeward.records.bundle import Bundle, Manifest
from edgeward.records.candidate import Recipe, Report

MODULES = [
    importlib.import_module(f"edgeward.records.{m.name}") for m in pkgutil.iter_modules(edgeward.records.__path__)
]


def kinds_of(base):
    found = {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    }
    return sorted(found, key=lambda kind: kind.__name__)


RECORDS, DOCUMENTS = kinds_of(Record), kinds_of(Document)
named = {"ids": lambda kind: kind.__name__}
calm = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def test_there_are_records_and_documents_to_test():
    assert {Manifest, Bundle, Report} <= set(RECORDS)
    assert {kind.__name__ for kind in DOCUMENTS} >= {"Budget", "Target", "Recipe", "PreprocessFile"}


@pytest.mark.parametrize("kind", RECORDS + DOCUMENTS, **named)
@calm
@given(data=st.data())
def test_what_is_written_is_read_back_equal(kind, data):
    record = data.draw(instances(kind))
    for write in (codec.to_json, codec.to_pretty_json, codec.to_canonical_json):
        assert codec.from_json(write(record), kind, "here") == record


@pytest.mark.parametrize("kind", [Manifest, Report], **named)
@calm
@given(data=st.data())
def test_canonical_bytes_of_equal_records_are_equal(kind, data):
    record = data.draw(instances(kind))
    canonical = codec.to_canonical_json(record)
    assert codec.to_canonical_json(codec.from_json(codec.to_pretty_json(record), kind, "here")) == canonical


@pytest.mark.parametrize("kind", RECORDS, **named)
@calm
@given(data=st.data())
def test_an_old_reader_takes_a_new_writer(kind, data):
    record = data.draw(instances(kind))
    newer = json.loads(codec.to_json(record)) | {"field_of_tomorrow": {"deep": [1, 2]}}
    assert codec.from_json(json.dumps(newer).encode(), kind, "here") == record


@pytest.mark.parametrize("kind", DOCUMENTS, **named)
@calm
@given(data=st.data())
def test_a_slip_of_the_pen_is_refused(kind, data):
    record = data.draw(instances(kind))
    slip = json.loads(codec.to_json(record)) | {"fielld": 1}
    with pytest.raises(WrongInput, match="unknown field `fielld`"):
        codec.from_json(json.dumps(slip).encode(), kind, "here")


@pytest.mark.parametrize("kind", RECORDS + DOCUMENTS, **named)
def test_nothing_that_travels_can_be_changed(kind):
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"created_at": "2026-11-20T12:00:00"}, "expected `datetime` with a timezone component - at `$.created_at`"),
        ({"name": "Golden Bundle"}, "expected `str` matching regex"),
        ({"kind": "smell"}, "invalid enum value 'smell' - at `$.kind`"),
        ({"targets": None}, "expected `array`, got `null` - at `$.targets`"),
    ],
)
def test_a_fault_is_told_with_its_place(golden_manifest, change, fault):
    spoiled = json.loads(golden_manifest) | change
    with pytest.raises(WrongInput) as told:
        codec.from_json(json.dumps(spoiled).encode(), Manifest, "edgeward.json")
    assert told.value.message.startswith("edgeward.json: ")
    assert fault in told.value.message


def test_the_manifest_of_schema_version_1_reads_and_writes_as_it_always_did(golden_manifest):
    manifest = codec.from_json(golden_manifest, Manifest, "edgeward.json")
    assert manifest.schema_version == 1
    assert manifest.measurement.latency.p50_ms == 1.0
    assert holds(json.loads(codec.to_json(manifest)), json.loads(golden_manifest))


def holds(new, old):
    """Whether everything in `old` stands unchanged in `new`, which may say more."""
    if isinstance(old, dict):
        return all(key in new and holds(new[key], value) for key, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(holds(one, other) for one, other in zip(new, old, strict=True))
    return new == old


def test_a_librarys_sentence_begins_small_but_a_name_in_it_keeps_its_capitals():
    with pytest.raises(WrongInput, match="here: JSON is malformed"):
        codec.from_json(b"{x", Recipe, "here")
    with pytest.raises(WrongInput, match="here: object missing required field"):
        codec.from_json(b"{}", Recipe, "here")
