"""A runtime by entry point whose native code does what broken ones do: the first number of a sample says what."""

import ctypes
import time
from typing import Any

from numpy.typing import NDArray

from edgeward.infer.runtimes import Runtime, Session
from edgeward.infer.runtimes.echo import Echo, EchoSession


class FragileSession:
    def __init__(self, echo: EchoSession) -> None:
        self._echo = echo
        self.inputs, self.outputs = echo.inputs, echo.outputs

    def run(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        match float(next(iter(feeds.values())).flat[0]):
            case 666.0:
                ctypes.CDLL(None).strlen(None)  # reads address 0 in C
            case 777.0:
                while True:
                    ctypes.CDLL(None).pause()  # waits in C for a signal
            case 5.0:
                time.sleep(0.02)  # long enough for a thread of its own
        return self._echo.run(feeds)


class Fragile(Echo):
    formats = ("fragile",)

    def load(self, model: bytes, *, threads: int) -> Session:
        return FragileSession(super().load(model, threads=threads))  # type: ignore[arg-type]


plugin: Runtime = Fragile()
