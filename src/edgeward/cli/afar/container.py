"""A bundle to a device as a container: the image is made here, what it lacks is sent, an engine or cluster runs it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bundle import containers, packers, pods
from edgeward.bundle.bases import ARCHES
from edgeward.bundle.closure import HOME
from edgeward.bundle.containers import Container
from edgeward.cli import exporting
from edgeward.cli.afar.device import Device, Run
from edgeward.kit.codec import digest_of_file
from edgeward.kit.errors import Unsupported

if TYPE_CHECKING:
    from edgeward.bundle import Trust, VerifiedBundle
    from edgeward.cli.console import Progress

ENGINES = ("podman", "docker")
CLUSTERS = ("k3s", "microk8s")
_PYTHON = f"{HOME}/bin/python"


def deploy(
    host: str, folder: Path, trust: "Trust", engine: str, address: str, port: int, threads: int | None,
    progress: "Progress", *, base: str = "debian", ssh_options: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What runs there now, what it answered first, and the bytes that were sent.

    Raises Failed where the container does not start or answer: then what ran before runs again.
    """
    verified, contents = exporting.copied(folder, trust)
    progress.stage(f"connecting to {host}", 0.01)
    with Device(host, options=ssh_options) as device, tempfile.TemporaryDirectory() as work:
        if engine not in device.facts.programs:
            hint = None if engine in CLUSTERS else f"sudo apt-get install {engine}, there"
            raise Unsupported(f"{host}: has no {engine}", hint=hint)
        arch = next((ours for ours, theirs in ARCHES.items() if theirs == device.facts.arch), None)
        if arch is None:
            raise Unsupported(f"{host}: is {device.facts.arch}; images are made for {', '.join(ARCHES.values())}")
        service = packers.Service(_PYTHON, containers.BUNDLE, address, port, threads, contents=contents)
        tell = lambda text, share: progress.stage(text, 0.05 + 0.25 * share)  # noqa: E731
        machine = exporting.machine(
            arch, verified.manifest.runtime, base, extras=(), only_in=None, fresh=False, stands_on_base=True, tell=tell
        )
        image = Path(work) / "image"
        packed = packers.load("oci-image").pack(verified, service._replace(machines=(machine,)))
        exporting.write(packed, image, overwrite=False)
        files = {str(path.relative_to(image)): path for path in sorted(image.rglob("*")) if path.is_file()}
        digests = {name: digest_of_file(path).removeprefix("sha256:") for name, path in files.items()}
        sent = device.send(
            "the image", {digests[name]: path for name, path in files.items()},
            lambda text, share: progress.stage(text, 0.3 + 0.5 * share),
        )  # fmt: skip
        laid = f"image-{verified.bundle.digest[7:19]}"
        device.lay(laid, digests)
        # A cluster starts nothing anew for an image of the same name.
        named = (
            f"localhost/edgeward-{verified.manifest.name}:{verified.bundle.digest[7:19]}" if engine in CLUSTERS else ""
        )
        said = containers.container_of(verified.manifest, named, address, port, threads)
        progress.stage(f"giving it to {engine} there", 0.8)
        device.load(engine, laid, said.image)
        progress.stage("starting it there", 0.9)
        if engine in CLUSTERS:
            answers, where = _roll_out(device, engine, said, verified, service)
        else:
            answers, where = _start(device, engine, said, verified), said.published
        device.forget([laid])
    return {
        "host": host, "name": said.name, "version": said.version, "digest": verified.bundle.digest,
        "unit": f"{engine} {_unit(said, engine)}",
        "url": f"http://{where}/v2/models/{said.name}",
        "changed": True, "first_answers": json.loads(answers), "sent_bytes": sent,
    }  # fmt: skip


def options_of(said: Container, engine: str, cpus: int) -> list[str]:
    """Of `podman run` or `docker run`: walls, limits and devices. Docker refuses more `cpus` than the device has."""
    options = ["--restart", "unless-stopped" if engine == "docker" else "always", "--publish"]
    options += [f"{said.published}:{said.port}", "--read-only", "--cap-drop", "ALL"]
    options += ["--security-opt", "no-new-privileges", "--pids-limit", str(containers.TASKS)]
    options += ["--cpus", str(min(said.cpus, cpus))]
    options += ["--tmpfs", f"/tmp:rw,size={containers.TEMPORARY_BYTES >> 20}m,mode=1777"]  # noqa: S108 - in the container
    if said.memory_bytes is not None:
        options += ["--memory", f"{said.memory_bytes >> 20}m"]
    if engine == "docker" and said.grants.cdi:
        options += ["--gpus", "all"]
    else:
        options += [word for name in said.grants.cdi for word in ("--device", name)]
    options += [word for node in said.grants.nodes for word in ("--device", node)]
    options += [word for group in said.grants.groups for word in ("--group-add", group)]
    return options


def _start(device: Device, engine: str, said: Container, verified: "VerifiedBundle") -> str:
    return device.replace(Run(
        engine, f"edgeward-{said.name}", said.name, said.version, verified.bundle.digest, said.image,
        options_of(said, engine, device.facts.cpus), said.arguments, containers.health_command(),
        _trial(said, verified), said.start_s,
    ))  # fmt: skip


def _roll_out(
    device: Device, engine: str, said: Container, verified: "VerifiedBundle", service: packers.Service
) -> tuple[str, str]:
    packed = packers.load("kubernetes").pack(verified, service._replace(image=said.image))
    manifest = next(one.data for one in packed if one.path == "daemonset.yaml").decode()
    return device.roll_out(
        engine, pods.name_of(said), manifest, label=pods.node_label(said), trial=_trial(said, verified),
        limit_s=said.start_s,
    )  # fmt: skip


def _unit(said: Container, engine: str) -> str:
    """What a person asks the engine for."""
    return f"daemonset/{pods.name_of(said)}" if engine in CLUSTERS else f"container edgeward-{said.name}"


def _trial(said: Container, verified: "VerifiedBundle") -> list[str]:
    command = [_PYTHON, "-m", "edgeward.cli.first_answers", containers.BUNDLE, str(said.port)]
    return [*command, *containers.keys_of(verified)]
