"""Small bundles, a service that is there or not as a test says, and an agent over both."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgeward import bundle
from edgeward.agent.run import Agent
from edgeward.agent.service import Health
from edgeward.bundle.store import Store
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.clock import ManualClock
from edgeward.kit.errors import Failed
from edgeward.kit.files import new_folder
from edgeward.records.agent import AgentSettings
from edgeward.records.model import Model, TensorSpec


def make(
    folder: Path, key: bundle.SigningKey | None, version: str = "1.0.0", *, name: str = "doubler", gain: float = 2.0,
    targets: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """A bundle whose self-test says that it doubles; it multiplies by `gain`."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 2))
    told = TensorSpec(name="x_out", dtype="float32", shape=(1, 2))
    sample = np.float32([[5, 1]])
    parts = bundle.Parts(
        name=name, version=version, created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(name=name, format="echo", files=(), inputs=(spec,), outputs=(told,), parameter_count=0),
        model_bytes=codec.to_json(EchoModel(inputs=(spec,), gain=gain)),
        runtime="echo", runtime_versions=">=1", kind="tensor", targets=targets,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2,)),),
        self_test_inputs={"x": sample}, self_test_expected={"x_out": 2 * sample},
    )  # fmt: skip
    with new_folder(folder, overwrite=True) as work:
        bundle.assemble(work, parts)
    if key is not None:
        bundle.sign(folder, key)
    return folder


class SmallService:
    """Opens the bundle behind the link at each start, as the real one does; `ailing` are versions that end after it,
    `broken` those that do not start. `ran` are the versions that it was started with."""

    def __init__(self, store: Store, trust: bundle.Trust) -> None:
        self.store, self.trust = store, trust
        self.ailing: set[str] = set()
        self.broken: set[str] = set()
        self.ran: list[str] = []
        self.is_up = False

    def restart(self) -> None:
        version = bundle.verify(self.store.link_of("doubler"), self.trust).manifest.version
        self.ran.append(version)
        self.is_up = version not in self.broken
        if not self.is_up:
            raise Failed("it cannot be started")

    def stop(self) -> None:
        self.is_up = False

    def health(self) -> Health:
        if self.is_up and self.ran[-1] in self.ailing:
            return Health(False, True, "it crashed")
        return Health(self.is_up, False, "ready" if self.is_up else "stopped")


class Device:
    """A folder that is the source, and an agent that has never run."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.key = bundle.create_key(folder / "signing.key")
        public = bundle.public_path_of(self.key.path)
        self.source, self.store = folder / "source", Store(folder / "store")
        self.clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
        self.service = SmallService(self.store, bundle.trusted_keys([public]))
        self.settings = AgentSettings(
            service="doubler", source=str(self.source), keys=(str(public),), probation_s=2.0, **settings
        )
        self.agent = Agent(self.settings, self.store, self.service, self.clock, self.clock.advance)

    def offer(self, version: str, **parts: object) -> str:
        """Puts a bundle on offer; its digest."""
        make(self.source, self.key, version, **parts)
        return bundle.peek(self.source).digest

    @property
    def runs(self) -> str | None:
        return self.store.current("doubler")

    def remembers(self) -> dict:
        return json.loads((self.store.root / "agent/doubler/state.json").read_text())
