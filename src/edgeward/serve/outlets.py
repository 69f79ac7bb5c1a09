"""Results to sinks, and what became of them: one that fails is told and counted, and the next goes on."""

import sys
from collections.abc import Callable

from edgeward.kit.errors import EdgewardError, Failed, from_os_error
from edgeward.serve.results import Outlet, Result


class Printed:
    """An open sink: results on standard output, a line of JSON each."""

    def write(self, result: Result) -> None:
        sys.stdout.buffer.write(result.line)
        sys.stdout.buffer.flush()

    def close(self) -> None:
        pass


class Direct:
    """A sink that is written to by whoever has a result: as slow as it is, so slow is the source. For files."""

    def __init__(self, name: str, outlet: Outlet, tell: Callable[[str], None]) -> None:
        self.name = name
        self.written = self.failed = self.dropped = 0
        self._outlet = outlet
        self._tell = tell

    def put(self, result: Result) -> None:
        if self._went_well(lambda: self._outlet.write(result)):
            self.written += 1

    def close(self) -> None:
        self._went_well(self._outlet.close)

    def _went_well(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except BrokenPipeError:
            raise  # who read our standard output has gone: that ends the run, as with any program in a pipe
        except EdgewardError as error:
            fault = error
        except OSError as error:
            fault = from_os_error(error)
        except Exception as error:  # noqa: BLE001 - the one broad catch of a sink: inference goes on whatever it does
            fault = Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            return True
        self.failed += 1
        self._tell(f"sink {self.name}: {fault.message}")
        return False
