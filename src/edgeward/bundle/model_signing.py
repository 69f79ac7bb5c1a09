"""The OpenSSF's signature over plain files: what `model_signing verify key` reads (OMS, signature/v1.0).

A bundle's files are written beside one `model.sig`: a sigstore bundle whose statement lists every file's digest.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edgeward.bundle import layout as oci
from edgeward.bundle.contents import read_contents
from edgeward.bundle.keys import PublicKey, SigningKey
from edgeward.bundle.sigstore import envelope_of, opened
from edgeward.kit import codec, files
from edgeward.kit.errors import Refused

SIGNATURE: Final = "model.sig"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_IGNORED = [".git", ".gitignore", ".github", ".gitattributes"]


def write_signed(bundle: Path, target: Path, key: SigningKey) -> int:
    """Writes the bundle's files and the signature of `key` into the new folder `target`; how many files.

    Raises Refused for a bundle that is not whole, WrongInput where `target` is there and not empty.
    """
    contents = read_contents(oci.Layout(bundle))
    with files.new_folder(target) as work:
        for path, layer in contents.files.items():
            place = work / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents.layout.read(layer, path))
        statement = codec.to_canonical_json(_statement(contents.manifest.name, dict(_digests(work))))
        hint = hashlib.sha256(key.public.to_pem()).hexdigest()  # by which model-signing knows a key
        (work / SIGNATURE).write_bytes(envelope_of(statement, key, hint))
    return len(contents.files)


def check_signed(folder: Path, key: PublicKey) -> None:
    """Raises Refused unless `key` signed the files in `folder`, all of them and no others, as they are."""
    where = folder / SIGNATURE
    with files.open_regular(where) as file:
        payload = opened(file.read(oci.MANIFEST_LIMIT_BYTES), key, str(where))
    said = codec.from_json(payload, dict[str, Any], str(where))
    resources = {one["name"]: one["digest"] for one in said.get("predicate", {}).get("resources", [])}
    found = dict(_digests(folder))
    if said.get("predicateType") != PREDICATE_TYPE or _root(resources) != said["subject"][0]["digest"]["sha256"]:
        raise Refused(f"{where}: is no signature over a model's files")
    for name in sorted(resources.keys() | found.keys()):
        if resources.get(name) != found.get(name):
            how = "is not signed" if name not in resources else "is missing" if name not in found else "is altered"
            raise Refused(f"{folder}: {name} {how}")


def _statement(name: str, digests: dict[str, str]) -> dict[str, Any]:
    resources = [{"name": path, "algorithm": "sha256", "digest": digests[path]} for path in sorted(digests)]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": _IGNORED}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources},
    }


def _root(digests: dict[str, str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in sorted(digests))).hexdigest()


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise Refused(f"{path}: is a link, wanted the file itself")
        if path.is_file() and path != folder / SIGNATURE:
            with path.open("rb") as file:
                yield path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()
