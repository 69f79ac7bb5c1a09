"""The image that `edgeward export` writes without a daemon: podman runs it, walled in, and it answers."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import container_host
import numpy as np
import pytest
from container_host import GOLDEN, Emulation, Host, edgeward, free_port

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from registries import needs_registry, registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(container_host.missing() is not None, reason=str(container_host.missing())),
]
KEY = ("--key", GOLDEN / "signer.pub")
WALLS = ("--network", "none", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")


class Shipped:
    """The digits as a bundle, as an image for both processors, and in podman's store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = container_host.make_bundle(folder)
        self.image = folder / "image"
        self.said = edgeward("export", self.bundle, "--as", "oci-image", "-o", self.image, *KEY).stdout
        self.host = Host(folder)
        self.name = "localhost/digits:1"
        self.host.podman("tag", self.host.podman("pull", "-q", f"oci:{self.image}"), self.name)

    def export(self, form: str, *words: object) -> Path:
        place = self.folder / form
        edgeward("export", self.bundle, "--as", form, "-o", place, "--image", self.name, *KEY, *words)
        return place


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    made = Shipped(tmp_path_factory.mktemp("shipped"))
    try:
        yield made
    finally:
        made.host.close()


def inspected(reference: str, *options: str) -> dict[str, object]:
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", *options, reference], capture_output=True, check=True, timeout=60
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_it_answers_without_a_network_and_without_privileges(shipped: Shipped) -> None:
    container = shipped.host.podman("run", "-d", *WALLS, shipped.name)
    shipped.host.wait(container)
    told = shipped.host.ask(container)
    np.testing.assert_allclose(told["answer"], told["wanted"], rtol=1e-4, atol=1e-4)
    status = told["status"]
    assert status["Uid"].split() == ["65532"] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert told["devices"] == [0, 8]
    shipped.host.podman("stop", "--time", "10", container)
    assert shipped.host.podman("inspect", "--format", "{{.State.ExitCode}}", container) == "0"


def test_the_same_input_gives_the_same_digest_with_nothing_kept(shipped: Shipped, tmp_path: Path) -> None:
    """Only what was downloaded is kept: every layer of ours is made anew, in another folder."""
    kept, home = Path.home() / ".cache/edgeward", tmp_path / "home"
    (home / ".cache/edgeward").mkdir(parents=True)
    for name in ("bases", "wheels"):
        (home / ".cache/edgeward" / name).symlink_to(kept / name)
    again = tmp_path / "again"
    words = ("export", shipped.bundle, "--as", "oci-image", "-o", again, "--arch", "amd64", *KEY)
    edgeward(*words, HOME=str(home))
    digests = [
        next(one["digest"] for one in index["manifests"] if one["platform"]["architecture"] == "amd64")  # type: ignore[index,attr-defined]
        for index in (inspected(f"oci:{shipped.image}"), inspected(f"oci:{again}"))
    ]
    assert digests[0] == digests[1]
    assert not list((home / ".cache/edgeward/closures").glob("*.partial*"))


def test_skopeo_copies_both_processors_whole(shipped: Shipped, tmp_path: Path) -> None:
    subprocess.run(
        ["skopeo", "copy", "-q", "--all", f"oci:{shipped.image}", f"oci:{tmp_path / 'copy'}:1"], check=True, timeout=120
    )
    assert inspected(f"oci:{tmp_path / 'copy'}:1") == inspected(f"oci:{shipped.image}")


@needs_registry
def test_push_takes_it_to_a_registry_whole(shipped: Shipped, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        assert edgeward("push", shipped.image, f"{host}/digits:1").stdout.startswith(f"pushed {host}/digits:1@sha256:")
        assert inspected(f"docker://{host}/digits:1", "--tls-verify=false") == inspected(f"oci:{shipped.image}")
        both = [
            "skopeo",
            "copy",
            "-q",
            "--all",
            "--src-tls-verify=false",
            f"docker://{host}/digits:1",
            f"oci:{tmp_path}/b",
        ]
        subprocess.run(both, check=True, timeout=120)


def test_the_arm64_image_gives_the_same_answers(shipped: Shipped, tmp_path: Path) -> None:
    """ONNX Runtime reads in /sys which processors there are, and does not survive an emulated one's being another's."""
    for name in ("possible", "present", "online"):
        (tmp_path / name).write_text("0\n")
    seen = ("--volume", f"{tmp_path}:/sys/devices/system/cpu:ro", "--env", "QEMU_CPU=cortex-a72")
    with Emulation():
        image = shipped.host.podman("pull", "-q", "--arch", "arm64", f"oci:{shipped.image}")
        container = shipped.host.podman("run", "-d", *seen, *WALLS, image)
        shipped.host.wait(container, seconds=200)
        told = shipped.host.ask(container)
    assert told["machine"] == "aarch64"
    np.testing.assert_allclose(told["answer"], told["wanted"], rtol=1e-4, atol=1e-4)


def test_a_model_alone_is_mounted_over_the_images(shipped: Shipped) -> None:
    model = shipped.host.podman("pull", "-q", f"oci:{shipped.export('model-image')}")
    mount = f"type=image,source={model},destination=/bundle"
    container = shipped.host.podman("run", "-d", *WALLS, "--mount", mount, shipped.name)
    shipped.host.wait(container)
    mounts = shipped.host.podman("exec", container, "python", "-c", "print(open('/proc/mounts').read())")
    assert any(line.split()[1] == "/bundle" for line in mounts.splitlines())
    told = shipped.host.ask(container)
    np.testing.assert_allclose(told["answer"], told["wanted"], rtol=1e-4, atol=1e-4)


def test_podman_plays_the_pod(shipped: Shipped) -> None:
    port = free_port()
    pod = shipped.export("kubernetes", "--port", port) / "pod.yaml"
    shipped.host.podman("kube", "play", pod)
    shipped.host.wait("edgeward-digits-serve")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits", timeout=10) as reply:
        assert json.load(reply)["name"] == "digits"
    said = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.SecurityOpt}}"
    assert shipped.host.podman("inspect", "--format", said, "edgeward-digits-serve") == "true [no-new-privileges]"
    shipped.host.podman("kube", "down", pod)


def test_podman_compose_starts_the_compose_file(shipped: Shipped) -> None:
    port = free_port()
    folder = shipped.export("compose", "--port", port)
    program = [Path(sys.executable).with_name("podman-compose"), "--podman-path", shipped.host.program]
    for words in (["up", "-d"], ["down"]):
        subprocess.run([*program, *words], cwd=folder, check=True, capture_output=True, timeout=120)
        if words[0] == "up":
            container = shipped.host.podman("ps", "-q", "--filter", "name=digits_1")
            shipped.host.wait(container)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10) as reply:
                assert reply.status == 200
            assert shipped.host.podman("healthcheck", "run", container) == ""


def test_a_containerfile_builds_the_same_tree(shipped: Shipped) -> None:
    folder = shipped.export("containerfile", "--arch", "amd64")
    shipped.host.podman("build", "-q", "--platform", "linux/amd64", "-t", "localhost/built:1", folder)
    listing = (
        "import os, hashlib; print(*sorted(os.path.join(a, b) for a, _, c in os.walk('/opt') for b in c), sep='\\n')"
    )
    trees = [
        shipped.host.podman("run", "--rm", *WALLS, "--entrypoint", "/usr/bin/python3.11", image, "-c", listing)
        for image in (shipped.name, "localhost/built:1")
    ]
    assert trees[0] == trees[1]
    container = shipped.host.podman("run", "-d", *WALLS, "localhost/built:1")
    shipped.host.wait(container)


def test_quadlet_makes_a_service_of_the_file(shipped: Shipped) -> None:
    place = shipped.export("quadlet")
    program = quadlet()
    run = lambda: subprocess.run(  # noqa: E731
        program, env={**os.environ, "QUADLET_UNIT_DIRS": str(place)}, capture_output=True, text=True, timeout=60
    )
    done = run()
    started = next(line for line in done.stdout.splitlines() if line.startswith("ExecStart="))
    for option in ("--read-only", "--cap-drop all", "--security-opt=no-new-privileges", "--user 65532:65532"):
        assert option in started
    file = place / "edgeward-digits.container"
    file.write_text(file.read_text().replace("ReadOnly=", "ReadOnlyy="))
    assert "unsupported key 'ReadOnlyy'" in run().stderr, "the generator refuses nothing"


def quadlet() -> list[str]:
    """The generator of a Podman that has it: this machine's, else Debian 13's with its C library."""
    own = Path("/usr/libexec/podman/quadlet")
    if own.exists():
        return [str(own), "--dryrun"]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward-tests" / "quadlet"
    if not folder.exists():
        root = folder.with_name(f"quadlet-{os.getpid()}")
        words = ["mmdebstrap", "-q", "--variant=extract", "--include=podman", "trixie", root]
        if subprocess.run(words, capture_output=True, check=False, timeout=280).returncode != 0:
            pytest.skip("Debian 13's podman cannot be had, and this machine's has no Quadlet (it takes Podman 4.4)")
        folder.mkdir()
        library = next((root / "usr/lib").glob("*-linux-gnu"))
        for path in (root / own.relative_to("/"), library / "libc.so.6", *library.glob("ld-linux-*")):
            shutil.copy(path, folder)
        shutil.rmtree(root)
    loader = next(folder.glob("ld-linux-*"))
    return [str(loader), "--library-path", str(folder), str(folder / "quadlet"), "--dryrun"]
