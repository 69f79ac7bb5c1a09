"""Push and pull with a real registry, and with one that lies, cuts, forgets and wants to know who we are."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "faults"))
from registries import Between, Reply, needs_registry, registry

from edgeward import bundle
from edgeward.bundle.registry import Access, Place, Reference, fetch, parse, push
from edgeward.kit.errors import Refused, Unavailable, WrongInput

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
GOOD = GOLDEN / "bundle-v1-good"
TRUST = bundle.trusted_keys([GOLDEN / "signer.pub"])
LOGIN = "edge:$2y$05$m.PJxWjjhwcO.qPNFWvzeOmFrrUJtUBd.MOWvEKe6NLmMOZwo4WbO"
"""A line of htpasswd: the password is "secret"."""
D = "sha256:" + "0" * 64

pytestmark = needs_registry


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry") / "r") as found:
        push(GOOD, Reference(found, "golden", "1"))
        yield found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("registry.example/a/b:1", Reference("registry.example", "a/b", "1")),
        (f"localhost:5000/a@{D}", Reference("localhost:5000", "a", None, D)),
        (f"[::1]:5000/a:1@{D}", Reference("[::1]:5000", "a", "1", D)),
        ("oci:/media/stick:1.0", Place(Path("/media/stick"), "1.0")),
        ("oci:./x", Place(Path("x"))),
        ("./here", Place(Path("here"))),
    ],
)
def test_names_of_bundles(text: str, wanted: Reference | Place) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize("text", ["digits", "a/b:1", "registry.example/UPPER:1", "https://registry.example/a:1", ""])
def test_what_names_no_bundle_is_told(text: str) -> None:
    with pytest.raises(WrongInput, match="names no bundle in a registry"):
        parse(text)


def test_what_was_pushed_comes_back_whole_and_signed(host: str, tmp_path: Path) -> None:
    done = fetch(Reference(host, "golden", "1"), tmp_path)
    verified = bundle.verify(tmp_path, TRUST)
    assert verified.bundle.digest == done.digest == bundle.verify(GOOD, TRUST).bundle.digest
    assert done.moved_bytes > 0


def test_a_repeat_moves_nothing(host: str, tmp_path: Path) -> None:
    fetch(Reference(host, "golden", "1"), tmp_path)
    assert fetch(Reference(host, "golden", "1"), tmp_path).moved_bytes == 0
    assert push(GOOD, Reference(host, "golden", "1")).moved_bytes == 0


def test_blobs_are_taken_over_from_another_repository(host: str) -> None:
    assert push(GOOD, Reference(host, "other/golden", "1"), mount_from="golden").moved_bytes == 0


def test_a_layout_on_a_stick_is_a_source_too(tmp_path: Path) -> None:
    fetch(Place(GOOD), tmp_path)
    assert bundle.verify(tmp_path, TRUST).manifest.name == "golden"


def test_what_is_not_there_is_told(host: str, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="there is no such bundle"):
        fetch(Reference(host, "golden", "2"), tmp_path)
    with pytest.raises(Unavailable, match=r"cannot be reached: .*refused"):
        fetch(Reference("127.0.0.1:1", "golden", "1"), tmp_path, access=Access(tries=0))


def test_a_damaged_bundle_is_not_pushed(host: str) -> None:
    with pytest.raises(Refused, match="altered"):
        push(GOLDEN / "bundle-v1-flipped-bit-model", Reference(host, "damaged", "1"))


def blobs_alone(change) -> object:
    def spoil(request, reply: Reply) -> None:
        if "/blobs/sha256:" in request.path and request.command == "GET" and len(reply.body) > 64:
            change(request, reply)

    return spoil


def lie(_: object, reply: Reply) -> None:
    reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]


def go_on_for_ever(_: object, reply: Reply) -> None:
    reply.endless = True


def say_more(_: object, reply: Reply) -> None:
    reply.body += b"more"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lie, "came bytes with the digest"),
        (go_on_for_ever, r"is longer than the [0-9]+ bytes that its manifest says"),
        (say_more, r"is longer than the [0-9]+ bytes that its manifest says"),
    ],
)
def test_a_registry_that_lies_is_refused_and_leaves_nothing(host: str, tmp_path: Path, change, sentence) -> None:
    with Between(host, blobs_alone(change)) as between, pytest.raises(Refused, match=sentence):
        fetch(Reference(between.host, "golden", "1"), tmp_path)
    assert not (tmp_path / "index.json").exists()
    assert not list(tmp_path.rglob(".partial-*"))


def test_a_manifest_of_another_digest_is_refused(host: str, tmp_path: Path) -> None:
    def swap(request, reply: Reply) -> None:
        if "/manifests/sha256:" in request.path:
            reply.body = reply.body.replace(b"schemaVersion", b"schemaVersion ", 1)

    digest = bundle.verify(GOOD, TRUST).bundle.digest
    with Between(host, swap) as between, pytest.raises(Refused, match="gave a manifest with the digest"):
        fetch(Reference(between.host, "golden", None, digest), tmp_path)


def test_a_connection_that_is_cut_again_and_again_is_gone_on_from_where_it_was(host: str, tmp_path: Path) -> None:
    starts: list[str] = []

    def cut(request, reply: Reply) -> None:
        starts.append(request.headers.get("Range", ""))
        if len(reply.body) > 40:
            reply.cut = 40

    with Between(host, blobs_alone(cut)) as between:
        fetch(Reference(between.host, "golden", "1"), tmp_path)
    assert "bytes=40-" in starts
    bundle.verify(tmp_path, TRUST)


def test_a_wrong_partial_of_an_earlier_try_is_thrown_away(host: str, tmp_path: Path) -> None:
    fetch(Reference(host, "golden", "1"), tmp_path)
    model = max((tmp_path / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    model.unlink()
    model.with_name(f".partial-{model.name}").write_bytes(b"rubbish")
    with pytest.raises(Refused, match="came bytes with the digest"):
        fetch(Reference(host, "golden", "1"), tmp_path)
    fetch(Reference(host, "golden", "1"), tmp_path)
    bundle.verify(tmp_path, TRUST)


def test_a_registry_that_wants_a_pause_gets_it(host: str, tmp_path: Path) -> None:
    asked: list[str] = []

    def busy(request, reply: Reply) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            reply.status, reply.headers = 429, {"Retry-After": "1"}

    with Between(host, busy) as between:
        fetch(Reference(between.host, "golden", "1"), tmp_path)
    assert asked[0] == asked[1]


def test_a_mirror_that_lies_is_left_and_the_registry_asked(host: str, tmp_path: Path) -> None:
    with Between(host, blobs_alone(lie)) as mirror:
        fetch(Reference(host, "golden", "1"), tmp_path, access=Access(mirrors=(mirror.host,)))
        blobs = [path for method, path, _ in mirror.seen if method == "GET" and "/blobs/" in path]
    assert len(blobs) == 1, "never asked again"
    bundle.verify(tmp_path, TRUST)


def test_a_near_copy_of_the_blobs_is_asked_first(host: str, tmp_path: Path) -> None:
    with Between(host, lambda *_: None) as mirror, Between(host, lambda *_: None) as origin:
        fetch(Reference(origin.host, "golden", "1"), tmp_path, access=Access(mirrors=(mirror.host,)))
        assert not [path for _, path, _ in origin.seen if "/blobs/" in path]


def test_a_login_is_asked_for_and_never_told_to_another_host(host: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with registry(tmp_path / "locked", LOGIN) as locked:
        with pytest.raises(Refused, match="wants a login"):
            push(GOOD, Reference(locked, "golden", "1"))
        auth = base64.b64encode(b"edge:secret").decode()
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {locked: {"auth": auth}}}))
        push(GOOD, Reference(locked, "golden", "1"))
        with Between(host, lambda *_: None) as elsewhere:

            def send_away(request, reply: Reply) -> None:
                if "/blobs/" in request.path:
                    reply.status, reply.body = 307, b""
                    reply.headers = {"Location": f"http://{elsewhere.host}{request.path}"}

            with Between(locked, send_away) as between:
                config = {"auths": {between.host: {"auth": auth}}}
                (tmp_path / ".docker/config.json").write_text(json.dumps(config))
                fetch(Reference(between.host, "golden", "1"), tmp_path / "out")
            assert elsewhere.seen
            assert not any("authorization" in {n.lower() for n in headers} for _, _, headers in elsewhere.seen)
        monkeypatch.setenv("EDGEWARD_REGISTRY_USER", "edge")
        monkeypatch.setenv("EDGEWARD_REGISTRY_PASSWORD", "wrong")
        with pytest.raises(Refused, match="the registry answered 401"):
            fetch(Reference(locked, "golden", "1"), tmp_path / "third")


def test_a_token_is_fetched_where_the_registry_says(host: str, tmp_path: Path) -> None:
    def guard(request, reply: Reply) -> None:
        if request.path.startswith("/token"):
            reply.status, reply.headers, reply.body = 200, {}, b'{"token": "open-sesame"}'
        elif request.headers.get("Authorization") != "Bearer open-sesame":
            realm = f"http://{request.headers['Host']}/token"
            reply.status, reply.body = 401, b""
            reply.headers = {
                "WWW-Authenticate": f'Bearer realm="{realm}",service="here",scope="repository:golden:pull"'
            }

    with Between(host, guard) as between:
        fetch(Reference(between.host, "golden", "1"), tmp_path)
        assert "scope=repository%3Agolden%3Apull" in next(path for _, path, _ in between.seen if "/token" in path)
    bundle.verify(tmp_path, TRUST)


def test_what_is_chosen_comes_alone_and_a_refusal_comes_before_any_blob(host: str, tmp_path: Path) -> None:
    def refuse(_: bytes) -> str:
        raise Refused("no variant fits this device")

    one = bundle.verify(GOOD, TRUST).bundle.digest
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": one}
    entry["size"] = (GOOD / "blobs/sha256" / one[7:]).stat().st_size
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    from edgeward.bundle.registry.client import Registry

    Registry(Reference(host, "golden"), actions="pull,push").put_manifest(
        "all", json.dumps(index).encode(), index["mediaType"]
    )
    with Between(host, lambda *_: None) as between:
        with pytest.raises(Refused, match="no variant fits"):
            fetch(Reference(between.host, "golden", "all"), tmp_path / "a", choose=refuse)
        assert not [path for _, path, _ in between.seen if "/blobs/" in path]
    fetch(Reference(host, "golden", "all"), tmp_path / "b", choose=lambda _: one)
    assert (tmp_path / "b/blobs/sha256" / one[7:]).is_file()


def run(*words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edgeward", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_the_commands_push_pull_and_copy(host: str, tmp_path: Path) -> None:
    key = ("--key", GOLDEN / "signer.pub")
    told = json.loads(run("push", GOOD, f"{host}/by-command:1", "--json").stdout)
    assert told["reference"].startswith(f"{host}/by-command:1@sha256:")
    assert "is whole and signed" in run("pull", f"{host}/by-command:1", "-o", tmp_path / "out", *key).stdout
    assert "output folder exists" in run("pull", f"{host}/by-command:1", "-o", tmp_path / "out", *key, code=2).stderr
    run("copy", f"{host}/by-command:1", f"{host}/copied:2", *key)
    run("copy", f"{host}/copied:2", tmp_path / "stick", *key)
    assert run("verify", tmp_path / "stick", *key)
    refused = run("pull", f"{host}/by-command:1", "-o", tmp_path / "b", "--key", GOLDEN / "stranger.pub", code=6)
    assert "is signed by an unknown key" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stick"]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is missing: apt-get install skopeo")
def test_skopeo_reads_what_was_pushed(host: str, tmp_path: Path) -> None:
    command = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{host}/golden:1", f"dir:{tmp_path / 'dir'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "dir/manifest.json").read_text())
    assert said["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"


def test_oras_pulls_its_files(host: str, tmp_path: Path) -> None:
    client = pytest.importorskip("oras.client", reason="pip install oras").OrasClient(insecure=True)
    pulled = {Path(path).relative_to(tmp_path).as_posix() for path in client.pull(f"{host}/golden:1", outdir=tmp_path)}
    assert {"edgeward.json", "model.echo", "selftest/inputs.npz"} <= pulled
