"""What every form of container has in common: its command, its walls, the devices of its accelerator."""

from collections.abc import Iterable
from typing import NamedTuple

from edgeward.bundle.closure import HOME
from edgeward.bundle.needs import needs_of
from edgeward.bundle.verified import VerifiedBundle
from edgeward.records.bundle import Manifest

USER = 65532
"""No user of the machine: "nonroot" of many images."""
PORT = 8000
BUNDLE = "/bundle"
KEYS = "/etc/edgeward"
TEMPORARY_BYTES = 64 << 20
"""What /tmp may hold, in memory: runtimes keep what they compiled there."""
TASKS = 128
WHY_LIMITS = "Twice the measured peak, what requests may hold, and /tmp; CPUs for its threads as measured."
WHY_WALLS = "A user that owns nothing, no privileges and no way to gain any; it can write to a small /tmp alone."


class Grants(NamedTuple):
    """What a container is given of one kind of accelerator: nodes, or devices by the names that the container device
    interface knows them by; `resource` is what a device plugin of Kubernetes calls it."""

    nodes: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()
    resource: str | None = None
    groups: tuple[str, ...] = ()


_NVIDIA = Grants(cdi=("nvidia.com/gpu=all",), resource="nvidia.com/gpu")
_RENDER = Grants(("/dev/dri",), resource="gpu.intel.com/i915", groups=("render",))
_OF_RUNTIME = {
    "onnxruntime-cuda": _NVIDIA,
    "onnxruntime-tensorrt": _NVIDIA,
    "tensorrt": _NVIDIA,
    "onnxruntime-migraphx": Grants(("/dev/kfd", "/dev/dri"), resource="amd.com/gpu", groups=("render",)),
    "onnxruntime-openvino-gpu": _RENDER,
    "onnxruntime-openvino-npu": Grants(("/dev/accel",), resource="npu.intel.com/accel", groups=("render",)),
    "onnxruntime-webgpu": _RENDER,
    "onnxruntime-qnn": Grants(("/dev/fastrpc-cdsp", "/dev/dma_heap/system"), groups=("render",)),
}
"""By runtime; one that is not here runs on the CPU."""


class Container(NamedTuple):
    """How one bundle runs in a container, for every form of it. `memory_bytes` is None where it was not measured."""

    name: str
    version: str
    image: str
    port: int
    arguments: tuple[str, ...]
    grants: Grants
    memory_bytes: int | None
    cpus: int
    start_s: int
    published: str
    model_image: str = ""

    @property
    def threads(self) -> int:
        """Of the model; `cpus` has one more, for requests."""
        return max(1, self.cpus - 1)


def container_of(manifest: Manifest, image: str, host: str, port: int, threads: int | None) -> Container:
    """Started by the name `image`, by default one of this machine, and published there at `host` and `port`."""
    needs = needs_of(manifest, threads)
    return Container(
        name=manifest.name,
        version=manifest.version,
        image=image or f"localhost/edgeward-{manifest.name}:{manifest.version}",
        port=PORT,
        arguments=() if threads is None else ("--threads", str(threads)),
        grants=_OF_RUNTIME.get(manifest.runtime, Grants()),
        memory_bytes=None if needs.memory_bytes is None else needs.memory_bytes + TEMPORARY_BYTES,
        cpus=needs.cpus,
        start_s=needs.start_s,
        published=f"{f'[{host}]' if ':' in host else host}:{port}",
    )


def keys_of(bundle: VerifiedBundle) -> dict[str, bytes]:
    """The public keys that signed it, by where an image has them."""
    trusted = {signer.fingerprint: signer for signer in bundle.signers}
    ordered = enumerate(sorted(trusted.items()), 1)
    return {f"{KEYS}/signer-{number}.pub": signer.to_pem() for number, (_, signer) in ordered}


def entrypoint(keys: Iterable[str]) -> list[str]:
    """What an image starts; words after it are options of `serve`."""
    trusted = [word for key in keys for word in ("--key", key)]
    python = [f"{HOME}/bin/python", "-X", "faulthandler", "-m", "edgeward"]
    return [*python, "serve", BUNDLE, "--host", "0.0.0.0", "--port", str(PORT), *trusted]  # noqa: S104 - the container's


def health_command() -> list[str]:
    """A program in the image that ends with 0 while every model is ready."""
    return [f"{HOME}/bin/python", "-m", "edgeward.link.alive", str(PORT)]


def environment() -> dict[str, str]:
    """ONNX Runtime's official builds report home unless the first is set; nothing can be written but /tmp."""
    return {
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - the container's own
        "XDG_CACHE_HOME": "/tmp",  # noqa: S108 - the same
    }


def labels(bundle: VerifiedBundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        "io.edgeward.bundle": bundle.bundle.digest,
        "io.edgeward.runtime": manifest.runtime,
        "org.opencontainers.image.created": manifest.created_at.isoformat(),
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.version": manifest.version,
    }
