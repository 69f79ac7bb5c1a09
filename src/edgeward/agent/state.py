"""What the agent remembers, in one file that is whole or the one before."""

from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from edgeward.kit import codec, files, log
from edgeward.kit.errors import WrongInput
from edgeward.records.agent import AgentState, Noted

_NOTED = 50


class StateFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> AgentState:
        """What it was when it was written last. A damaged file is put aside: a device must go on without it."""
        try:
            return codec.from_json(self._path.read_bytes(), AgentState, str(self._path))
        except FileNotFoundError:
            return AgentState()
        except WrongInput as error:
            log.warning("state_damaged", path=self._path, reason=error.message)
            self._path.replace(self._path.with_suffix(".damaged"))
            return AgentState()

    def write(self, state: AgentState) -> AgentState:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(self._path, codec.to_pretty_json(state))
        return state


def noted(state: AgentState, at: datetime, what: str) -> AgentState:
    """With one more line for a person; the oldest go."""
    log.info("agent", what=what)
    return replace(state, noted=(*state.noted[1 - _NOTED :], Noted(at=at, what=what)))
