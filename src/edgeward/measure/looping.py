"""`python -m edgeward.measure.looping`: runs a model again and again, one frame each, until its input ends."""

import os
import select
import sys
from pathlib import Path

import msgspec

from edgeward.infer import read_npz, runtimes
from edgeward.infer.markers import framed
from edgeward.kit.errors import EdgewardError
from edgeward.kit.process import receive, send
from edgeward.measure.jobs import Contender, ErrorTold, Ready, encode
from edgeward.measure.worker import own_output

_LOOK_EVERY = 20


def main() -> None:
    """A Contender in, Ready out; then frames until nobody wants them any more."""
    with own_output() as output:
        message = receive(sys.stdin.buffer)
        if message is None:
            return
        contender = msgspec.msgpack.decode(message, type=Contender)
        try:
            session = runtimes.load(contender.runtime).load(
                Path(contender.file).read_bytes(), threads=contender.threads
            )
        except EdgewardError as error:
            send(output, encode(ErrorTold(type(error).__name__, error.message, error.hint)))
            return
        arrays = read_npz(Path(contender.feeds))
        count = len(next(iter(arrays.values())))
        samples = [{name: column[place : place + 1] for name, column in arrays.items()} for place in range(count)]
        for sample in samples:
            session.run(sample)
        send(output, encode(Ready()))
        parent, runs = os.getppid(), 0
        while runs % _LOOK_EVERY or (os.getppid() == parent and not _is_over()):
            framed(session.run, samples[runs % count])
            runs += 1


def _is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    main()
