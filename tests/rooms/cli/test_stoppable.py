"""A Ctrl-C that Python loses still ends the work, at its next stage."""

import os
import signal

import pytest

from edgeward.cli import console


class Silent:
    def stage(self, text: str, done: float) -> None: ...

    def say(self, text: str) -> None: ...


class InterruptedWhileCleared:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # the handler runs before this is done


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_lost_is_raised_at_the_next_stage():
    before = signal.getsignal(signal.SIGINT)
    with console.stoppable(Silent()) as progress:
        progress.stage("work", 0.1)
        victim = InterruptedWhileCleared()
        del victim
        with pytest.raises(KeyboardInterrupt):
            progress.stage("more work", 0.2)
    assert signal.getsignal(signal.SIGINT) is before


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1000))


def test_an_interrupt_ends_the_work_at_once():
    with pytest.raises(KeyboardInterrupt), console.stoppable(Silent()):
        interrupt()
