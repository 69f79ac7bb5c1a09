"""One look of an agent, for a test that cuts the power in the middle of it: `python update_once.py CONFIG STORE`.

The service is a file that says which bundle was started: it is written after the bundle behind the link was verified,
as the real service does before it loads a model. The self-test is left out; it runs in a process of its own.
"""

import sys
from pathlib import Path

from edgeward.agent.run import Agent
from edgeward.agent.service import Health
from edgeward.bundle.checking import Checked, check
from edgeward.bundle.keys import trusted_keys
from edgeward.bundle.store import Store
from edgeward.kit import codec
from edgeward.kit.clock import SystemClock
from edgeward.records.agent import AgentSettings


class Untested(Agent):
    def _test(self, checked: Checked) -> None:
        pass


class Started:
    def __init__(self, store: Store, settings: AgentSettings) -> None:
        self._link = store.link_of(settings.service)
        self._trust = trusted_keys([Path(key) for key in settings.keys])

    def restart(self) -> None:
        check(self._link, self._trust)

    def stop(self) -> None:
        pass

    def health(self) -> Health:
        return Health(True, False, "started")


settings = codec.from_toml(Path(sys.argv[1]), AgentSettings)
store = Store(Path(sys.argv[2]))
sys.stdout.write(Untested(settings, store, Started(store, settings), SystemClock()).once())
