"""Processes started ahead of need are ready, fresh, and gone when they are not needed."""

import sys

import pytest

from edgeward.kit.errors import Failed
from edgeward.kit.process import Standby

ECHO = (
    sys.executable, "-c",
    "import sys\nfrom edgeward.kit.process import receive, send\n"
    "while (m := receive(sys.stdin.buffer)) is not None: send(sys.stdout.buffer, m)",
)  # fmt: skip


def test_what_was_started_ahead_answers_and_is_taken_once():
    standby = Standby(ECHO, most=1)
    with standby:
        standby.prepare()
        standby.prepare()
        with standby.take() as first, standby.take() as second:
            assert first is not second
            assert first.ask(b"one", limit_s=30) == b"one"
            assert second.ask(b"two", limit_s=30) == b"two"


def test_what_is_not_taken_ends_with_the_need():
    standby = Standby(ECHO, most=2)
    with standby:
        standby.prepare()
        waiting = list(standby._ready)
        assert len(waiting) == 2
    assert not any(one.is_alive() for one in waiting)
    standby.prepare()
    assert not standby._ready


def test_one_that_was_given_back_serves_again_and_ends_with_the_need():
    standby = Standby(ECHO, most=1)
    with standby:
        lent = standby.lend()
        standby.give_back(lent)
        assert standby.lend() is lent
        assert lent.ask(b"again", limit_s=30) == b"again"
        standby.give_back(lent)
    assert not lent.is_alive()


def test_one_that_died_while_it_waited_is_not_handed_out():
    standby = Standby((sys.executable, "-c", "pass"), most=1)
    with standby:
        standby.prepare()
        [died] = standby._ready
        with pytest.raises(Failed):
            died.ask(b"", limit_s=30)
        with standby.take() as fresh:
            assert fresh is not died
