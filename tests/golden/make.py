"""Makes the golden bundles beside it anew: the same bytes each time, so that a difference means something.

    python tests/golden/make.py [FOLDER]

The keys here are for these bundles alone; nobody may trust them.
"""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from edgeward.bundle import Parts, SigningKey, assemble, load_key, packers, reassemble, sign, trusted_keys, verify
from edgeward.bundle.assembly import Said
from edgeward.bundle.layout import FILE_PATH, Layout
from edgeward.bundle.signing import add_signature
from edgeward.bundle.variants import join
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.bundle import SCHEMA_VERSION
from edgeward.records.candidate import Distribution, Measurement, Setting
from edgeward.records.model import Classify, Model, Normalize, TensorSpec

HERE = Path(__file__).parent
STATED = "https://example.org/statement/v1"
FORMS = ("compose", "containerfile", "helm", "kubernetes", "quadlet")
MADE_AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def main(folder: Path) -> None:
    signer, stranger = _key("signer"), _key("stranger")
    for name, build in CASES.items():
        case = folder / name
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        build(case, signer, stranger)
    write_unit(folder)
    write_forms(folder)


def write_unit(folder: Path) -> None:
    """The unit of the good bundle, as `edgeward deploy` writes it."""
    verified = verify(folder / "bundle-v1-good", trusted_keys([HERE / "signer.pub"]))
    service = packers.Service("/opt/edgeward/bin/python", "/var/lib/edgeward/services/golden/current")
    unit = packers.load("systemd").pack(verified, service)[-1]
    (folder / Path(unit.path).name).write_bytes(unit.data)


def write_forms(folder: Path) -> None:
    """The good bundle as other platforms start it, as `edgeward export` writes it."""
    verified = verify(folder / "bundle-v1-good", trusted_keys([HERE / "signer.pub"]))
    shutil.rmtree(folder / "forms", ignore_errors=True)
    for form in FORMS:
        for one in packers.load(form).pack(verified, packers.Service("", "", threads=2)):
            place = folder / "forms" / form / one.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(one.data)


def good(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    assemble(case, parts())
    sign(case, signer)


def complete(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """With all that may be left out: a licence, figures and a tolerance of another target, a statement."""
    base = case / "base"
    base.mkdir()
    assemble(base, parts())
    first = parts().measurement
    assert first is not None
    other = replace(first, target="other-target", latency=replace(first.latency, p50_ms=9.0), model=_model_digest(base))
    said = Said(version="1.1", license="Apache-2.0", tolerances={"other-target": 0.02}, measurements=(other,))
    reassemble(base, case, MADE_AT, said)
    shutil.rmtree(base)
    sign(case, signer)
    add_signature(Layout(case), _model_entry(case)["digest"], signer, STATED, {"note": "stated, and signed"})


def altered_statement(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    complete(case, signer, stranger)
    entry = _index(case)["manifests"][2]
    statement = json.loads(_blob(case, entry["digest"]).read_bytes())["layers"][0]["digest"]
    _damage(_blob(case, statement), lambda data: data.replace(b'"payload":"', b'"payload":"A', 1)[:-1] + b" ")


def variants(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """Two bundles of one model and version under one index, each signed by itself."""
    (case / "one").mkdir()
    (case / "other").mkdir()
    good(case / "one", signer, stranger)
    assemble(case / "other", replace(parts(), thread_count=4))
    sign(case / "other", signer)
    join([case / "one", case / "other"], case / "all", trusted_keys([HERE / "signer.pub"]))
    for part in (case / "all").iterdir():
        part.rename(case / part.name)
    for name in ("one", "other", "all"):
        shutil.rmtree(case / name)


def unsigned(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    assemble(case, parts())


def wrong_key(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    assemble(case, parts())
    sign(case, stranger)


def flipped_bit_model(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    good(case, signer, stranger)
    _damage(_blob_of(case, "model.echo"), lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:])


def flipped_bit_manifest(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    good(case, signer, stranger)
    _damage(_blob(case, _model_entry(case)["digest"]), lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:])


def truncated_model(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    good(case, signer, stranger)
    _damage(_blob_of(case, "model.echo"), lambda data: data[: len(data) // 2])


def missing_blob(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    good(case, signer, stranger)
    _blob_of(case, "model.echo").unlink()


def newer_schema(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """Signed as it should be, by a maker who knows more than this version."""
    fields = {"schema_version": SCHEMA_VERSION + 1, "sealed_for": "a field that nobody here knows"}
    _with_fields(case, fields, signer)


def unknown_step(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """Signed as it should be; it wants a step that nobody here knows, without which every answer would be wrong."""
    _with_fields(case, {"preprocess": [{"type": "step_of_tomorrow", "strength": 3}]}, signer)


def _with_fields(case: Path, fields: dict[str, Any], signer: SigningKey) -> None:
    """The good bundle, its manifest changed before it was signed."""
    assemble(case, parts())
    document = json.loads(_blob_of(case, "edgeward.json").read_bytes()) | fields
    stored = Layout(case).put(codec.to_canonical_json(document), "")

    def point_there(manifest: dict[str, Any]) -> None:
        manifest["layers"][0] |= {"digest": stored.digest, "size": stored.size}

    _rewrite_manifest(case, point_there, signer)


def swapped_model(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """Another whole bundle stands where the signed one stood; the signature stayed."""
    good(case, signer, stranger)
    signature = _index(case)["manifests"][1]
    assemble(case, replace(parts(), model_bytes=codec.to_json(EchoModel(inputs=(_spec(),), gain=-1.0))))
    index = _index(case)
    index["manifests"].append(signature)
    (case / "index.json").write_bytes(codec.to_canonical_json(index))


def path_escape(case: Path, signer: SigningKey, stranger: SigningKey) -> None:
    """Signed as it should be, and still no file may land outside the bundle."""
    assemble(case, parts())

    def lead_out(manifest: dict[str, Any]) -> None:
        manifest["layers"][1]["annotations"][FILE_PATH] = "../../../etc/cron.d/model"

    _rewrite_manifest(case, lead_out, signer)


CASES: dict[str, Callable[[Path, SigningKey, SigningKey], None]] = {
    "bundle-v1-good": good,
    "bundle-v1-complete": complete,
    "bundle-v1-altered-statement": altered_statement,
    "variants-v1": variants,
    "bundle-v1-unsigned": unsigned,
    "bundle-v1-wrong-key": wrong_key,
    "bundle-v1-flipped-bit-model": flipped_bit_model,
    "bundle-v1-flipped-bit-manifest": flipped_bit_manifest,
    "bundle-v1-truncated-model": truncated_model,
    "bundle-v1-missing-blob": missing_blob,
    "bundle-v1-swapped-model": swapped_model,
    "bundle-v1-path-escape": path_escape,
    "bundle-v1-unknown-step": unknown_step,
    "bundle-newer-schema": newer_schema,
}


def parts() -> Parts:
    """A bundle with every field in use: bytes in, normalised, doubled."""
    raw = np.array([[0, 51, 255], [102, 204, 153]], np.uint8)
    return Parts(
        name="golden",
        version="1.0",
        created_at=MADE_AT,
        targets=("golden-target",),
        model=Model(
            name="golden",
            format="echo",
            files=(),
            inputs=(_spec(),),
            outputs=(TensorSpec(name="x_out", dtype="float32", shape=("batch", 3)),),
            parameter_count=1234,
        ),
        model_bytes=codec.to_json(EchoModel(inputs=(_spec(),), gain=2.0)),
        precision="float32",
        runtime="echo",
        runtime_versions=">=1,<2",
        kind="tensor",
        inputs=(TensorSpec(name="x", dtype="uint8", shape=(3,)),),
        preprocess=(Normalize(mean=(0.5,), std=(0.5,)),),
        postprocess=(Classify(top=1),),
        labels=("low", "middle", "high"),
        self_test_inputs={"x": raw},
        self_test_expected={"x_out": ((raw / np.float32(255) - np.float32(0.5)) * 4).astype(np.float32)},
        measurement=_measurement(),
        report=b'{"reason": "golden"}\n',
    )


def _measurement() -> Measurement:
    digest = "sha256:" + "0" * 64
    return Measurement(
        model=digest,
        target="golden-target",
        setting=Setting(
            device_id="golden",
            runtime_version="1",
            kernel="6.12",
            cpu_governor="performance",
            thread_count=1,
            warmup_runs=10,
            scenario="single_stream",
        ),
        taken_at=MADE_AT,
        latency=Distribution(runs=100, p50_ms=1.0, p95_ms=1.5, p99_ms=2.0, max_ms=3.0, samples=digest),
        cold_start_ms=20.0,
        throughput_per_s=1000.0,
        peak_memory_bytes=1_000_000,
        energy_mj=None,
        quality={"top1": 0.9},
        temperature_c=None,
        throttled=False,
    )


def _spec() -> TensorSpec:
    return TensorSpec(name="x", dtype="float32", shape=("batch", 3))


def _model_digest(case: Path) -> str:
    manifest = json.loads(_blob(case, _model_entry(case)["digest"]).read_bytes())
    digest: str = next(
        layer["digest"] for layer in manifest["layers"] if layer["annotations"][FILE_PATH] == "model.echo"
    )
    return digest


def _key(name: str) -> SigningKey:
    path = HERE / f"{name}.key"
    path.chmod(0o600)  # git keeps no such mode
    return load_key(path)


def _index(case: Path) -> dict[str, Any]:
    return json.loads((case / "index.json").read_bytes())  # type: ignore[no-any-return]


def _model_entry(case: Path) -> dict[str, Any]:
    return _index(case)["manifests"][0]  # type: ignore[no-any-return]


def _blob(case: Path, digest: str) -> Path:
    return case / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _blob_of(case: Path, path: str) -> Path:
    manifest = json.loads(_blob(case, _model_entry(case)["digest"]).read_bytes())
    return next(_blob(case, layer["digest"]) for layer in manifest["layers"] if layer["annotations"][FILE_PATH] == path)


def _damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _rewrite_manifest(case: Path, change: Callable[[dict[str, Any]], None], signer: SigningKey) -> None:
    """Changes the OCI manifest of an unsigned bundle, lists the new one instead, and signs that."""
    old = _blob(case, _model_entry(case)["digest"])
    manifest = json.loads(old.read_bytes())
    change(manifest)
    stored = Layout(case).put(codec.to_canonical_json(manifest), "")
    old.unlink()
    index = _index(case)
    index["manifests"][0] |= {"digest": stored.digest, "size": stored.size}
    (case / "index.json").write_bytes(codec.to_canonical_json(index))
    add_signature(Layout(case), stored.digest, signer)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
