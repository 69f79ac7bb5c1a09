"""Finished trials, kept by content: a search that was stopped, or is asked again, goes on where it was.

So is the forecast, for which recipes a search asks hangs on the times of layers.

They stand in the user's cache folder ($XDG_CACHE_HOME/edgeward/trials). The key is made of all that a trial hangs on:
model, data, steps, recipe, threads, the machine, the versions of the runtime and of this code. Times of a race are
never kept.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgeward.kit import codec
from edgeward.kit.errors import EdgewardError
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.jobs import Contender
from edgeward.optimize.layer_times import RUNTIMES
from edgeward.optimize.prepare import Task
from edgeward.optimize.trials import Candidate, Judge, Rig
from edgeward.records.base import Record
from edgeward.records.candidate import Forecast, Recipe, Trial
from edgeward.records.model import Preprocess

_LARGEST_BYTES = 1 << 30
_FORECAST = "forecast.json"


class Kept(Record):
    """What of a candidate is no array and no model. `given_ms` is what the model as given took when `alone_ms` was
    measured."""

    trial: Trial
    preprocess: Preprocess
    alone_ms: float
    given_ms: float
    file: str


class Memory:
    """The kept trials of one task. `folder` None: nothing is kept."""

    def __init__(self, folder: Path | None, task: Task, judge: Judge, rig: Rig, given_ms: float) -> None:
        self._folder, self._given_ms = folder, given_ms
        self._rig = rig
        self._task = b"".join(
            [
                codec.digest_of(task.model_bytes).encode(), _digest(task.evaluation), _digest(task.calibration),
                codec.to_json(task.preprocess), codec.to_json(task.postprocess), judge.metric.name.encode(),
                f"{judge.seed} {rig.threads}".encode(),
                rig.place.key.encode(), _own_code(),
            ]
        )  # fmt: skip

    def recall(self, recipe: Recipe) -> Candidate | None:
        """The candidate that this recipe made before, its files in the rig's folder; None where none is kept whole."""
        if self._folder is None:
            return None
        try:
            place = self._folder / self._key(recipe)
            kept = codec.from_json((place / "kept.json").read_bytes(), Kept, str(place))
            data = (place / "model").read_bytes()
            if codec.digest_of(data) != kept.trial.digest:
                return None
            outputs = np.load(place / "outputs.npy", allow_pickle=False)
            file, feeds = self._rig.folder / kept.file, self._rig.folder / f"{recipe.name}.npz"
            file.write_bytes(data)
            shutil.copyfile(place / "feeds.npz", feeds)
            os.utime(place)
        except (OSError, ValueError, EdgewardError):
            return None
        contender = Contender(str(file), recipe.runtime, kept.trial.thread_count or 1, str(feeds))
        alone_ms = kept.alone_ms * self._given_ms / kept.given_ms
        return Candidate(kept.trial, data, kept.preprocess, contender, outputs, alone_ms)

    def keep(self, recipe: Recipe, candidate: Candidate) -> None:
        """Stores a finished trial."""
        if self._folder is None:
            return
        kept = Kept(
            trial=candidate.trial, preprocess=candidate.preprocess, alone_ms=candidate.alone_ms,
            given_ms=self._given_ms, file=Path(candidate.contender.file).name,
        )  # fmt: skip

        def fill(place: Path) -> None:
            (place / "kept.json").write_bytes(codec.to_json(kept))
            (place / "model").write_bytes(candidate.model_bytes)
            np.save(place / "outputs.npy", candidate.outputs, allow_pickle=False)
            shutil.copyfile(candidate.contender.feeds, place / "feeds.npz")

        _store(self._folder / self._key(recipe), fill)

    def forget_oldest(self) -> None:
        """Deletes what was not used for longest, down to a gigabyte."""
        if self._folder is None or not self._folder.is_dir():
            return
        with suppress(OSError):
            places = sorted(self._folder.glob("[0-9a-f]*"), key=lambda place: place.stat().st_mtime, reverse=True)
            total = 0
            for place in places:
                total += sum(file.stat().st_size for file in place.iterdir())
                if total > _LARGEST_BYTES:
                    shutil.rmtree(place, ignore_errors=True)

    def _key(self, recipe: Recipe) -> str:
        version = self._rig.place.version(recipe.runtime)
        text = b"\0".join([self._task, codec.to_json(recipe), version.encode()])
        return hashlib.sha256(text).hexdigest()


class ForecastMemory:
    """The kept forecast for a task's model. `folder` None: nothing is kept."""

    def __init__(self, folder: Path | None, task: Task, rig: Rig) -> None:
        model, setting = codec.digest_of(task.model_bytes), f"{rig.threads[0]} {rig.place.key}"
        text = b"\0".join([b"forecast", model.encode(), setting.encode(), *_versions(rig), _own_code()])
        self._place = None if folder is None else folder / hashlib.sha256(text).hexdigest()

    def recall(self) -> Forecast | None:
        if self._place is None:
            return None
        try:
            found = codec.from_json((self._place / _FORECAST).read_bytes(), Forecast, str(self._place))
            os.utime(self._place)
        except (OSError, EdgewardError):
            return None
        return found

    def keep(self, told: Forecast) -> None:
        """Stores what was measured."""
        if self._place is None or not told.layers or self._place.exists():
            return
        _store(self._place, lambda place: (place / _FORECAST).write_bytes(codec.to_json(told)))


def _store(place: Path, fill: Callable[[Path], object]) -> None:
    """Makes a folder, which appears whole. A full or closed disk stops no search: nothing is kept then."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=place.parent) as made:
            new = Path(made) / "new"
            new.mkdir()
            fill(new)
            new.rename(place)


def _versions(rig: Rig) -> list[bytes]:
    """Of the runtimes that a forecast is made for; a missing one is in none."""
    found = []
    for runtime in RUNTIMES:
        with suppress(EdgewardError):
            found.append(f"{runtime} {rig.place.version(runtime)}".encode())
    return found


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this user's kept trials stand."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward" / "trials"


def _digest(data: LoadedSet) -> bytes:
    """Of samples and labels, in their order."""
    return hashlib.sha256(b"".join(data.fingerprints()) + data.label_bytes()).digest()


def _own_code() -> bytes:
    """Of the code that makes candidates: what one version of it made says nothing of another's."""
    package = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for room in ("infer", "measure", "optimize"):
        for file in sorted((package / room).rglob("*.py")):
            hasher.update(file.read_bytes())
    return hasher.digest()
