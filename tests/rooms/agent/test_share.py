"""A device that shares: others fetch from it what it has, and from the registry what it has not."""

import http.client
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "faults"))
from registries import Between, needs_registry, registry

from edgeward import bundle
from edgeward.agent.share import Sharing
from edgeward.bundle.agent_units import sharing
from edgeward.bundle.registry import Access, Reference, fetch, push
from edgeward.bundle.store import Store

GOLDEN = Path(__file__).parents[2] / "golden"
GOOD = GOLDEN / "bundle-v1-good"


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Sharing]:
    """A device with the good bundle."""
    store = Store(tmp_path / "store")
    store.put(GOOD, bundle.trusted_keys([GOLDEN / "signer.pub"]))
    with Sharing(store, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Sharing, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers=headers)
    reply = connection.getresponse()
    return reply.status, dict(reply.headers), reply.read()


def model() -> tuple[str, bytes]:
    digest = bundle.peek(GOOD).manifest.model.files[0].digest
    return digest, (GOOD / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()


def test_blobs_are_given_whole_or_from_the_middle_on(neighbour: Sharing) -> None:
    digest, data = model()
    assert ask(neighbour, f"/v2/any/name/blobs/{digest}")[::2] == (200, data)
    status, headers, got = ask(neighbour, f"/v2/any/name/blobs/{digest}", Range="bytes=10-")
    assert (status, got, headers["Content-Range"]) == (206, data[10:], f"bytes 10-{len(data) - 1}/{len(data)}")
    assert ask(neighbour, f"/v2/any/name/blobs/{digest}", Range=f"bytes={len(data)}-")[0] == 416
    status, headers, got = ask(neighbour, f"/v2/x/blobs/{digest}", "HEAD")
    assert (status, headers["Content-Length"], got) == (200, str(len(data)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/x/blobs/sha256:" + "0" * 64, "/v2/x/manifests/latest", "/", "/v2/x/tags/list", "/v2/_catalog",
        "/v2/x/blobs/sha256:../../../../etc/passwd", "/v2/../../etc/passwd", "/v2/x/blobs/" + "a" * 3000,
        "/v2/x/referrers/" + model()[0],
    ],
)  # fmt: skip
def test_nothing_else_is_given(neighbour: Sharing, path: str) -> None:
    assert ask(neighbour, path)[::2] == (404, b"")
    assert ask(neighbour, path, "HEAD")[0] == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_nothing_is_taken(neighbour: Sharing, method: str) -> None:
    assert ask(neighbour, f"/v2/x/blobs/{model()[0]}", method)[0] == 501


def test_more_than_four_at_once_are_told_to_come_later(neighbour: Sharing) -> None:
    for _ in range(4):
        assert neighbour.turns.acquire(blocking=False)
    status, headers, _ = ask(neighbour, f"/v2/x/blobs/{model()[0]}")
    assert (status, headers["Retry-After"]) == (503, "5")


@needs_registry
def test_others_fetch_blobs_from_it_and_the_rest_from_the_registry(neighbour: Sharing, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        push(GOOD, Reference(host, "golden", "1"))
        with Between(host, lambda *_: None) as between:
            access = Access(mirrors=(f"http://127.0.0.1:{neighbour.server_port}",))
            (tmp_path / "got").mkdir()
            fetch(Reference(between.host, "golden", "1"), tmp_path / "got", access=access)
            asked = [path for _, path, _ in between.seen]
        assert bundle.verify(tmp_path / "got", bundle.trusted_keys([GOLDEN / "signer.pub"]))
        assert not [path for path in asked if "/blobs/" in path]
        assert [path for path in asked if "/manifests/" in path]


@needs_registry
def test_one_that_has_it_not_or_lies_is_passed_over(neighbour: Sharing, tmp_path: Path) -> None:
    digest, data = model()
    (kept,) = (tmp_path / "store/bundles").glob(f"*/blobs/sha256/{digest.removeprefix('sha256:')}")
    kept.write_bytes(data[:-1] + b"!")
    (config,) = (tmp_path / "store/bundles").glob("*/index.json")
    with registry(tmp_path / "registry") as host:
        push(GOOD, Reference(host, "golden", "1"))
        (tmp_path / "got").mkdir()
        access = Access(mirrors=(f"http://127.0.0.1:{neighbour.server_port}", "http://127.0.0.1:1"), tries=0)
        fetch(Reference(host, "golden", "1"), tmp_path / "got", access=access)
        assert bundle.verify(tmp_path / "got", bundle.trusted_keys([GOLDEN / "signer.pub"]))
    shutil.rmtree(config.parent)
    assert ask(neighbour, f"/v2/x/blobs/{digest}")[0] == 404, "what was pruned is not given"


def test_its_unit_can_write_nothing() -> None:
    text = sharing("/opt/edgeward/current/bin/python")
    assert "ExecStart=/opt/edgeward/current/bin/python -m edgeward.agent.main share --host 0.0.0.0" in text
    assert "DynamicUser=yes" in text
    assert "ReadWritePaths" not in text
