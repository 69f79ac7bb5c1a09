"""Small real parts of a bundle, and ways to spoil one."""

import json
from datetime import UTC, datetime

import numpy as np
from msgspec.structs import replace

from edgeward.bundle import Parts
from edgeward.bundle.layout import FILE_PATH, Layout
from edgeward.bundle.signing import add_signature
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.model import Model, TensorSpec


def tiny_parts(**changes) -> Parts:
    """Three floats in, twice as much out."""
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    samples = np.arange(6, dtype=np.float32).reshape(2, 3)
    parts = Parts(
        name="tiny",
        version="1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(
            name="tiny",
            format="echo",
            files=(),
            inputs=(spec,),
            outputs=(TensorSpec(name="x_out", dtype="float32", shape=("batch", 3)),),
            parameter_count=0,
        ),
        model_bytes=codec.to_json(EchoModel(inputs=(spec,), gain=2.0)),
        runtime="echo",
        runtime_versions=">=1,<2",
        kind="tensor",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(3,)),),
        self_test_inputs={"x": samples},
        self_test_expected={"x_out": samples * 2},
    )
    return replace(parts, **changes)


def index_of(folder):
    return json.loads((folder / "index.json").read_bytes())


def write_index(folder, index):
    (folder / "index.json").write_bytes(json.dumps(index).encode())


def blob(folder, digest):
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def manifest_of(folder, entry=0):
    return json.loads(blob(folder, index_of(folder)["manifests"][entry]["digest"]).read_bytes())


def file_of(folder, path):
    layers = manifest_of(folder)["layers"]
    return next(blob(folder, layer["digest"]) for layer in layers if layer["annotations"][FILE_PATH] == path)


def change_manifest(folder, change, signer):
    """A careless or hostile maker: signs, with a key we trust, a manifest that does not hold together."""
    manifest = manifest_of(folder)
    change(manifest)
    stored = Layout(folder).put(json.dumps(manifest).encode(), "")
    index = index_of(folder)
    index["manifests"] = [index["manifests"][0] | {"digest": stored.digest, "size": stored.size}]
    write_index(folder, index)
    add_signature(Layout(folder), stored.digest, signer)


def change_record(folder, change, signer):
    """The same for edgeward.json."""
    document = json.loads(file_of(folder, "edgeward.json").read_bytes())
    change(document)
    stored = Layout(folder).put(json.dumps(document).encode(), "")
    change_manifest(
        folder, lambda manifest: manifest["layers"][0].update(digest=stored.digest, size=stored.size), signer
    )


def relist_signature(folder, referrer, bundle):
    """Lists, as the only signature, `bundle` in place of the one that `referrer` held; all digests are right."""
    layout = Layout(folder)
    layer = layout.put(json.dumps(bundle).encode(), "")
    referrer["layers"][0].update(digest=layer.digest, size=layer.size)
    stored = layout.put(json.dumps(referrer).encode(), "")
    index = index_of(folder)
    index["manifests"][1].update(digest=stored.digest, size=stored.size)
    write_index(folder, index)
