"""The process that a flame graph is taken of: `python -m …profiling.running FILE RUNTIME THREADS FEEDS`.

It loads the model, says "ready", and from then on runs it until its standard input ends.
"""

import select
import sys
from pathlib import Path

from edgeward.infer import read_npz, runtimes
from edgeward.kit.errors import EdgewardError
from edgeward.measure.worker import own_output

_WARM_RUNS = 20
_RUNS_BETWEEN_LOOKS = 50


def main() -> None:
    with own_output() as output:
        file, runtime, threads, feeds = sys.argv[1:5]
        try:
            session = runtimes.load(runtime).load(Path(file).read_bytes(), threads=int(threads))
            sample = {name: column[:1] for name, column in read_npz(Path(feeds)).items()}
            for _ in range(_WARM_RUNS):
                session.run(sample)
        except EdgewardError as error:
            output.write(error.message.encode() + b"\n")
            output.flush()
            return
        output.write(b"ready\n")
        output.flush()
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in range(_RUNS_BETWEEN_LOOKS):
                session.run(sample)


if __name__ == "__main__":
    main()
