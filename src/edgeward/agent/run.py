"""Looks for a newer bundle, and takes it through: fetch, verify, policy, self-test, switch, watch, commit or step back.

The order of the writes is what makes a power cut harmless: a bundle has its name when it is whole; the trial is written
down before the switch; the switch is one rename. A run begins with what the one before left.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path

from msgspec.structs import replace

from edgeward.agent import decide
from edgeward.agent.service import Health, Service
from edgeward.agent.state import StateFile, noted
from edgeward.bundle import policy, resolve
from edgeward.bundle.checking import Checked, check
from edgeward.bundle.keys import Trust, trusted_keys
from edgeward.bundle.layout import INDEX_TYPE
from edgeward.bundle.registry import Access, Place, Reference, Registry, fetch, parse
from edgeward.bundle.registry.client import Stored
from edgeward.bundle.registry.fetch import OnDisk
from edgeward.bundle.store import Store
from edgeward.kit import codec, process
from edgeward.kit.clock import Clock
from edgeward.kit.errors import EdgewardError, Failed, Refused, Unavailable, WrongInput
from edgeward.measure.naming import target_name
from edgeward.records.agent import AgentSettings, AgentState, Pinned, Proven, Trial
from edgeward.records.target import Machine

_LOOK_S = 0.5


class Agent:
    """`patience` sleeps for so many seconds while a service is watched."""

    def __init__(
        self, settings: AgentSettings, store: Store, service: Service, clock: Clock,
        patience: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = store
        self._service, self._clock, self._patience = service, clock, patience
        self._own = store.root / "agent" / settings.service
        self._file = StateFile(self._own / "state.json")
        ca = None if settings.ca is None else Path(settings.ca)
        self._access = Access(settings.plain_http, ca, settings.mirrors)
        self._pinned: Pinned | None = None

    @property
    def state(self) -> AgentState:
        return self._file.read()

    def once(self) -> str:
        """One look and all that follows from it; what was done, in a sentence.

        Raises Unavailable where the source is not reached, Refused where what it offers may not run here; the bundle
        that runs stays.
        """
        with self.store.locked():
            self._recover()
            try:
                return self._look()
            except EdgewardError as error:
                state, in_vain = self.state, isinstance(error, Unavailable)
                tries = state.tries_in_vain + 1 if in_vain else state.tries_in_vain
                self._write(replace(state, tries_in_vain=tries, trouble=error.message))
                raise

    def check(self) -> str:
        """What the source has and what would be done about it."""
        state, current = self.state, self.store.current(self.settings.service)
        action = decide.on_offer(state, current, self._offered(), is_window=True)
        return f"{action.digest} would be installed" if isinstance(action, decide.Bring) else action.reason

    def hold(self, *, held: bool) -> str:
        """Whether updates wait until somebody releases them."""
        what = "updates are held" if held else "updates are released"
        self._write(noted(replace(self.state, is_held=held), self._clock.now(), what))
        return what

    def rollback(self) -> str:
        """Back to the bundle before; the one of now is not taken again."""
        name = self.settings.service
        with self.store.locked():
            self._recover()
            current, before = self.store.current(name), self.store.previous(name)
            if current is None or before is None or before == current:
                raise WrongInput(f"{name}: there is no bundle before this one to go back to")
            check(self.store.folder_of(before), self._trust())
            failed = {**self.state.failed, current: "it was rolled back by hand"}
            self._write(noted(replace(self.state, failed=failed), self._clock.now(), f"rolled back from {current}"))
            self.store.switch(name, before, remember=False)
            self._service.restart()
        return f"{name} runs {before} again"

    # --- one look

    def _recover(self) -> None:
        action = decide.at_start(self.state, self.store.current(self.settings.service))
        if isinstance(action, decide.Finish):
            self._service.restart()
            self._watch(action.trial, None)
        elif isinstance(action, decide.Forget):
            self._write(replace(self.state, trial=None))
        self.store.prune()

    def _look(self) -> str:
        offered, now = self._offered(), self._clock.now()
        self._write(replace(self.state, tries_in_vain=0, checked_at=now, trouble="", pinned=self._pinned))
        local = now.astimezone()
        is_window = decide.is_window(self.settings.windows, local.hour * 60 + local.minute)
        current = self.store.current(self.settings.service)
        action = decide.on_offer(self.state, current, offered, is_window=is_window)
        if isinstance(action, decide.Rest):
            return action.reason
        return self._install(offered)

    def _install(self, digest: str) -> str:
        name = self.settings.service
        checked = self._brought(digest)
        try:
            self._test(checked)
        except Failed as error:
            self._fail(digest, error.message)
            raise
        trial = Trial(digest=digest, before=self.store.current(name))
        self._write(replace(self.state, trial=trial))
        self.store.switch(name, digest, remember=False)
        try:
            self._service.restart()
        except EdgewardError as error:
            self._step_back(trial, error.message)
            raise Failed(f"{name} {checked.manifest.version} did not start: {error.message}; stepped back") from None
        return self._watch(trial, checked)

    def _brought(self, digest: str) -> Checked:
        """The bundle in the store: whole, signed by a key that is trusted here, and allowed."""
        place = self.store.folder_of(digest)
        trust = self._trust()
        if not place.exists():
            incoming = self._own / "incoming"
            incoming.mkdir(parents=True, exist_ok=True)
            self._keep_quota()
            done = fetch(
                self._source(), incoming, access=self._access, near=self.store.blobs(),
                limit_bytes_per_s=self.settings.limit_bytes_per_s, choose=lambda _: digest,
            )  # fmt: skip
            if done.digest != digest:
                raise Unavailable("the source has another bundle by now; the next look takes that")
            try:
                self._allowed(check(incoming, trust))
            except Refused:
                shutil.rmtree(incoming)  # what was refused is not left behind
                raise
            self.store.adopt(incoming, digest)
        checked = check(place, trust)
        self._allowed(checked)
        return checked

    def _allowed(self, checked: Checked) -> None:
        manifest, state = checked.manifest, self.state
        newest = None if state.newest is None else policy.Ran(state.newest.version, state.newest.created_at)
        offered = policy.Offered(
            manifest.name, manifest.version, manifest.created_at, checked.digest, manifest.runtime, manifest.targets
        )
        device = policy.Device(self.settings.service, state.failed, newest, self.settings.targets)
        reason = policy.refusal(offered, device)
        if reason is not None:
            raise Refused(f"{manifest.name} {manifest.version} ({checked.digest[:19]}…) {reason}")

    def _keep_quota(self) -> None:
        if self.settings.quota_bytes is not None and (used := self.store.used_bytes()) > self.settings.quota_bytes:
            raise Failed(
                f"{self.store.root}: bundles take {used / 1e6:.0f} MB, allowed are "
                f"{self.settings.quota_bytes / 1e6:.0f}; nothing more is fetched"
            )

    def _test(self, checked: Checked) -> None:
        """Its self-test, in a process of its own: a model that crashes or hangs takes nobody along."""
        folder = self.store.folder_of(checked.digest)
        keys = [word for key in self.settings.keys for word in ("--key", key)]
        python = self.settings.python or sys.executable
        target = ["--target", self.settings.targets[0]] if self.settings.targets else []
        command = [python, "-m", "edgeward", "verify", str(folder), *keys, *target, "--self-test", "--json"]
        done = process.run(command, limit_s=self.settings.test_limit_s)
        if done.code != 0:
            lines = [line.strip() for line in done.complaint.splitlines() if line.strip()]
            told = next((line for line in lines if line.startswith("edgeward: ")), (lines or [done.ending])[-1])
            told = told.removeprefix("edgeward: ")
            if done.code in (WrongInput.exit_code, Unavailable.exit_code):  # this device's fault, not the bundle's
                raise Unavailable(f"the self-test could not be run: {told}")
            raise Failed(f"the self-test did not pass: {told}")
        said = json.loads(done.output)
        took_s = said["self_test"]["took_s"]
        if took_s > checked.manifest.self_test.deadline_s:
            raise Failed(f"the self-test took {took_s:.1f} s, allowed are {checked.manifest.self_test.deadline_s:g}")
        slower, larger = self.settings.most_times_slower, self.settings.most_times_larger
        why = decide.why_too_costly(said["cost"], slower, larger)
        if why is not None:
            raise Failed(f"the self-test passed, and yet: {why}")

    # --- on trial

    def _watch(self, trial: Trial, checked: Checked | None) -> str:
        """Until it has done well for the time of probation, or has not."""
        begin_s = ready_s = self._clock.monotonic_s()
        was_ready = False
        while True:
            health, now_s = self._service.health(), self._clock.monotonic_s()
            if health.has_failed or (was_ready and not health.is_ready):
                return self._step_back_after(trial, health)
            if not health.is_ready and now_s - begin_s > self.settings.start_limit_s:
                return self._step_back_after(trial, health)
            if health.is_ready and not was_ready:
                was_ready, ready_s = True, now_s
            if was_ready and now_s - ready_s >= self.settings.probation_s:
                return self._commit(trial, checked)
            self._patience(_LOOK_S)

    def _step_back_after(self, trial: Trial, health: Health) -> str:
        self._step_back(trial, health.why)
        raise Failed(f"{trial.digest[:19]}… did not do: {health.why}; stepped back")

    def _commit(self, trial: Trial, checked: Checked | None) -> str:
        found = checked or check(self.store.folder_of(trial.digest), self._trust())
        newest = Proven(version=found.manifest.version, created_at=found.manifest.created_at)
        what = f"{found.manifest.name} {found.manifest.version} ({trial.digest[:19]}…) runs and has proved itself"
        self.store.remember(self.settings.service, trial.before)
        self._write(noted(replace(self.state, trial=None, newest=newest), self._clock.now(), what))
        self.store.prune()
        return what

    def _step_back(self, trial: Trial, reason: str) -> None:
        name = self.settings.service
        self.store.switch(name, trial.before, remember=False)
        self._fail(trial.digest, reason)  # before what may fail too
        if trial.before is None:
            self._service.stop()
        else:
            self._service.restart()

    def _fail(self, digest: str, reason: str) -> None:
        state = replace(self.state, trial=None, failed={**self.state.failed, digest: reason})
        self._write(noted(state, self._clock.now(), f"{digest[:19]}… did not do: {reason}"))

    # --- what it reads

    def _source(self) -> Reference | Place:
        """A stick is the first that is there."""
        if "*" in self.settings.source:
            found = sorted(glob(self.settings.source))  # noqa: PTH207 - a whole path with stars, which Path.glob takes not
            if not found:
                raise Unavailable(f"{self.settings.source}: no such stick is there")
            return Place(Path(found[0]))
        place = parse(self.settings.source)
        if isinstance(place, Place) and not place.folder.exists():
            raise Unavailable(f"{place.folder}: is not there")
        return place

    def _offered(self) -> str:
        """The digest that the source has for this device."""
        source = self._source()
        opened = Registry(source, self._access) if isinstance(source, Reference) else OnDisk(source)
        found = opened.manifest(source.wanted if isinstance(source, Reference) else source.tag or "")
        if found is None:
            raise Unavailable(f"{source}: has no such bundle now")
        self._pinned = self._chosen(found) if found.media_type == INDEX_TYPE else None
        return found.digest if self._pinned is None else self._pinned.variant

    def _chosen(self, index: Stored) -> Pinned:
        """The variant for this device; looked for anew when the index is another one or something failed here."""
        state = self.state
        failed = tuple(sorted(state.failed))
        if state.pinned is not None and (state.pinned.index, state.pinned.failed) == (index.digest, failed):
            return state.pinned
        command = [self.settings.python or sys.executable, "-m", "edgeward", "probe", "--no-peaks", "--json"]
        done = process.run(command, limit_s=self.settings.test_limit_s)
        if done.code != 0:
            raise Unavailable(f"what runs on this device could not be told: {done.ending}")
        machine = codec.from_json(done.output, Machine, "edgeward probe")
        runtimes = {one.name: one.version for one in machine.runtimes if one.works and one.version is not None}
        name = self.settings.targets[0] if self.settings.targets else target_name()
        device = resolve.Device(name, runtimes, machine.memory_bytes)
        return Pinned(index=index.digest, variant=resolve.choose(index.data, device, failed), failed=failed)

    def _trust(self) -> Trust:
        return trusted_keys([Path(key) for key in self.settings.keys])

    def _write(self, state: AgentState) -> None:
        self._file.write(state)
