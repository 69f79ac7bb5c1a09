"""Images, recordings and .npz files, or a folder of them; a watched folder also gives what is put there later."""

import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic

from edgeward.kit.errors import WrongInput
from edgeward.records.base import Document, Positive
from edgeward.serve import recorded
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted


class FilesOptions(Document):
    """`watch` waits for more files, looking every `interval_s`; what is there at the start is left out."""

    path: str
    watch: bool = False
    interval_s: Positive = 0.5


class Once:
    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._arrivals = recorded.arrivals(path, wanted)

    def __iter__(self) -> Iterator[Arrival]:
        return self._arrivals

    def close(self) -> None:
        pass


class Watched:
    """A file is taken once its size and time have stayed the same from one look to the next: who writes slowly, or
    over a network, is waited for."""

    def __init__(self, folder: Path, wanted: Wanted, interval_s: float) -> None:
        if not folder.is_dir():
            raise WrongInput(f"{folder}: is no folder; only a folder can be watched")
        self._folder = folder
        self._wanted = wanted
        self._interval_s = interval_s
        self._closed = Event()
        self._done = self._look()

    def _look(self) -> dict[Path, tuple[int, int]]:
        states = {}
        for file in recorded.files_in(self._folder, self._wanted):
            try:
                found = file.stat()
            except OSError:
                continue  # it was taken away between the two
            if stat.S_ISREG(found.st_mode):
                states[file] = (found.st_size, found.st_mtime_ns)
        return states

    def __iter__(self) -> Iterator[Arrival]:
        before = self._done
        while not self._closed.wait(self._interval_s):
            now = self._look()
            for file, state in now.items():
                if before.get(file) == state and self._done.get(file) != state:
                    for arrival in recorded.of_file_among_others(file, self._wanted):
                        yield arrival._replace(captured_s=monotonic())
                    self._done[file] = state
            self._done = {file: state for file, state in self._done.items() if file in now}
            before = now

    def close(self) -> None:
        self._closed.set()


class Files:
    options = FilesOptions

    def pace(self, options: FilesOptions) -> Pace:
        return "each" if options.watch else "on demand"

    def open(self, options: FilesOptions, wanted: Wanted) -> Stream:
        path = Path(options.path)
        return Watched(path, wanted, options.interval_s) if options.watch else Once(path, wanted)


plugin: Source = Files()
