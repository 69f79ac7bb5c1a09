"""Tells the service manager how a pipeline fares: its watchdog is fed by inferences that ended, as the service's is.

The pipeline's own loop calls it between samples; so a model that hangs, or a loop that does, feeds nobody.
"""

from collections.abc import Callable

from edgeward.infer import Predictor, Sample
from edgeward.kit import log, notify
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.errors import EdgewardError
from edgeward.serve.watchdog import Life, decide


class Heart:
    """Of the pipeline `name`, ready from now on. A source that gives nothing is no fault of the model: it then proves
    that it lives on `sample`. `status` is the line that people see."""

    def __init__(
        self, name: str, predictor: Predictor, sample: Sample, status: Callable[[], str], clock: Clock | None = None
    ) -> None:
        self._name = name
        self._predictor = predictor
        self._sample = sample
        self._status = status
        self._clock = clock or SystemClock()
        self._limit_s = notify.watchdog_s()
        self._before = predictor.completed
        self._fed_s = self._clock.monotonic_s()
        notify.tell("READY=1", notify.status(status()))

    def beat(self) -> None:
        """Does what the rule of the watchdog decides now; at most eight messages within the limit."""
        limit_s, since_s = self._limit_s, self._clock.monotonic_s() - self._fed_s
        if limit_s is None or since_s < limit_s / 8:
            return
        has_ended_one = self._predictor.completed != self._before
        decision = decide([Life(self._name, has_ended_one, is_asked=False)], since_s, limit_s)
        if decision.do == "feed" or (decision.do == "prove" and self._proves()):
            self._before, self._fed_s = self._predictor.completed, self._clock.monotonic_s()
            notify.tell("WATCHDOG=1", notify.status(self._status()))

    def stop(self) -> None:
        notify.tell("STOPPING=1", notify.status("lets the sinks write what waits"))

    def _proves(self) -> bool:
        try:
            self._predictor.answer(self._sample)
        except EdgewardError as error:
            log.warning("proof-of-life-failed", pipeline=self._name, reason=error.message)
            return False
        return True
