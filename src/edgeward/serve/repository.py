"""The bundles given at the start, read anew while requests are answered: one changes without a request lost.

A changed one is verified, loaded, self-tested and warmed beside the old one, and then put in its place in one step.
What has begun on the old one ends on it. A bad new one is told in the log, and the old one goes on.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeward import bundle
from edgeward.bundle import VerifiedBundle
from edgeward.kit import log, notify
from edgeward.kit.errors import EdgewardError, Refused, WrongInput
from edgeward.kit.memory import give_back
from edgeward.kit.threads import named
from edgeward.measure.naming import target_name
from edgeward.serve.batching import Batch
from edgeward.serve.catalog import check_names
from edgeward.serve.http import Application
from edgeward.serve.models import ServedModel


class Source:
    """One bundle's place, and what of it is served. `reason` is why it is not, or not as it is on disk."""

    def __init__(self, path: Path, model: ServedModel) -> None:
        self.path = path
        self.name, self.version = model.name, model.version
        self.model: ServedModel | None = model
        self.reason = ""


class Repository:
    """Opens bundles that `keys` have signed, and opens them again. `tell` hears what was found out about batches."""

    def __init__(
        self, keys: Sequence[Path], threads: int | None, batch: Batch | None = None, tell: Callable[[str], None] = print
    ) -> None:
        self._keys = keys
        self._tell = tell
        self._batch = batch
        self._threads = threads
        self._sources: list[Source] = []
        self._app: Application | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, paths: Iterable[Path]) -> list[ServedModel]:
        """The models, verified, loaded, self-tested and warm; two of one name are refused before any is loaded."""
        trust = bundle.trusted_keys(self._keys)
        places = [bundle.find_bundle(path) for path in paths]
        verified = [bundle.verify(place, trust) for place in places]
        check_names((one.manifest.name, one.manifest.version) for one in verified)
        models = [self._load(one) for one in verified]
        self._sources = [Source(place, model) for place, model in zip(places, models, strict=True)]
        return models

    def attach(self, app: Application) -> None:
        """The application whose models are changed from now on."""
        self._app = app

    def reload(self) -> None:
        """Reads every bundle anew that is served, in the background."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        notify.tell(*notify.reloading())
        for source in self._sources:
            if source.model is not None:
                try:
                    await self._renew(source)
                except EdgewardError as error:
                    log.warning("reload-refused", bundle=source.path, reason=error.message)
        notify.tell("READY=1")

    # --- what the repository API asks

    def index(self) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "version": one.version, "state": "UNAVAILABLE" if one.model is None else "READY",
             "reason": one.reason}
            for one in self._sources
        ]  # fmt: skip

    async def load(self, name: str) -> None:
        """Serves `name` as it is on disk now. Raises WrongInput where no bundle given at the start has this name, and
        what opening it raises."""
        for source in self._named(name):
            await self._renew(source)

    async def unload(self, name: str) -> None:
        """Serves `name` no more, until it is loaded again."""
        async with self._lock:
            for source in self._named(name):
                source.model, source.reason = None, "unloaded"
            self._put()

    def _named(self, name: str) -> list[Source]:
        found = [source for source in self._sources if source.name == name]
        if not found:
            names = ", ".join(sorted({source.name for source in self._sources}))
            raise WrongInput(f"there is no bundle {name[:80]!r}; this server was started with {names}")
        return found

    # --- one bundle

    async def _renew(self, source: Source) -> None:
        async with self._lock:
            loop = asyncio.get_running_loop()
            before = source.model
            digest = "" if before is None else before.facts["digest"]
            try:
                model = await loop.run_in_executor(None, self._opened, source.path, digest)
                if model is None:
                    source.reason = ""
                    return
                self._check(source, model)
            except EdgewardError as error:
                source.reason = error.message
                raise
            source.model, source.name, source.version, source.reason = model, model.name, model.version, ""
            self._put()
            del before
            told = {"model": model.name, "version": model.version, "digest": model.facts["digest"]}
            log.info("bundle-switched", **told)
            await loop.run_in_executor(None, give_back)

    def _check(self, source: Source, model: ServedModel) -> None:
        others = [(one.name, one.version) for one in self._sources if one is not source and one.model is not None]
        check_names([*others, (model.name, model.version)])

    def _put(self) -> None:
        if self._app is not None:
            self._app.put([source.model for source in self._sources if source.model is not None])

    def _opened(self, path: Path, digest: str) -> ServedModel | None:
        """The model, or None where the bundle is still the one of this digest. Any thread may do this."""
        try:
            verified = bundle.verify(path, bundle.trusted_keys(self._keys))
        except OSError as error:  # it is being replaced at this moment
            raise Refused(f"{path}: cannot be read: {error.strerror}") from error
        return None if verified.bundle.digest == digest else self._load(verified)

    def _load(self, verified: VerifiedBundle) -> ServedModel:
        notify.tell(notify.status(f"loads and tests {verified.manifest.name} {verified.manifest.version}"))
        with named(verified.manifest.name):
            predictor = bundle.open_predictor(verified, threads=self._threads)
        result = bundle.run_self_test(verified, predictor, target=target_name)
        if not result.passed:
            raise Refused(f"{verified.reference}: fails its self-test on this machine: {result.reason}")
        count = bundle.threads_for(verified, self._threads)
        model = ServedModel.of(verified.manifest, predictor, digest=verified.bundle.digest, threads=count)
        inputs, _ = verified.self_test()
        sample = {name: samples[0] for name, samples in inputs.items()}
        model.warm_up(sample)
        if self._batch is not None:
            self._tell(f"{model.name}: {model.batch(self._batch, sample)}")
        return model
