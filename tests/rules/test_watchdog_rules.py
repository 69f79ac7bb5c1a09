"""When the service manager's watchdog is fed: after inferences, never for the time alone."""

from hypothesis import given
from hypothesis import strategies as st

from edgeward.serve.watchdog import Life, decide

LIVES = st.lists(st.builds(Life, st.sampled_from(["a 1", "b 1"]), st.booleans(), st.booleans()), max_size=4)
SECONDS = st.floats(0, 1000)


@given(LIVES, SECONDS)
def test_it_is_fed_exactly_when_every_model_ended_an_inference(lives: list[Life], since_s: float) -> None:
    assert (decide(lives, since_s, 30).do == "feed") == all(life.has_ended_one for life in lives)


@given(LIVES, SECONDS)
def test_only_silent_models_are_asked_and_each_once(lives: list[Life], since_s: float) -> None:
    for place in decide(lives, since_s, 30).who:
        assert not lives[place].has_ended_one
        assert not lives[place].is_asked


@given(LIVES, st.floats(0, 14.9))
def test_nobody_is_asked_in_the_first_half_of_the_limit(lives: list[Life], since_s: float) -> None:
    assert decide(lives, since_s, 30).do in ("feed", "wait")


def test_one_model_that_hangs_is_not_covered_by_another_that_works() -> None:
    lives = [Life("a 1", True, False), Life("b 1", False, True)]
    assert decide(lives, 16, 30).do == "wait"
    starving = decide(lives, 23, 30)
    assert starving.do == "starve"
    assert starving.reason == "b 1 has ended no inference for 23 s, asked for one as proof of life"
