"""Takes model files on standard input through reading, passes and exporters; says of each how it ended, on one line.

A program of its own, so that a crash of a native library ends one line and not the test run.
"""

import math
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import onnx

from edgeward.infer.predictor import Predictor
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.measure.isolated import IsolatedSession
from edgeward.optimize import exporters, passes, readers
from edgeward.optimize.inspect import describe
from edgeward.records.candidate import Step
from edgeward.records.model import TensorSpec

CHAINS = {
    "onnx": (Step(use="simplify"), Step(use="block-first-conv"), Step(use="quantize-static"), Step(use="strip")),
    "litert": (Step(use="simplify"), Step(use="quantize-static"), Step(use="strip")),
    "float": (Step(use="simplify"), Step(use="fold-preprocess"), Step(use="strip")),
}


def survey(file: Path) -> str:
    """How the model ended: "runs", or the first sentence that stopped it."""
    model = readers.read_model(file)
    describe(model)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as copy, _opened(model, Path(copy.name)) as session:
        generator = np.random.default_rng(0)
        samples = [{spec.name: _drawn(spec, generator) for spec in session.inputs} for _ in range(4)]
        next(iter(Predictor(session).outputs_of(samples[:1])))
    for chain in CHAINS.values():
        _chain(model, chain, samples)
    return "runs"


def _opened(model: onnx.ModelProto, file: Path) -> IsolatedSession:
    file.write_bytes(model.SerializeToString())
    return IsolatedSession(str(file), "onnxruntime", 1)


def _drawn(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    shape = [dim if isinstance(dim, int) else 2 for dim in spec.shape[1:]]
    if math.prod(shape) > 10_000_000:
        raise Unsupported(f"{spec.name!r} is larger than anybody's sample: {shape}")
    values = generator.random(shape) * 4
    return np.asarray(values).astype("U4" if spec.dtype == "string" else spec.dtype)


def _chain(model: onnx.ModelProto, chain: tuple[Step, ...], samples: list[dict[str, np.ndarray]]) -> None:
    """What the optimiser does for a recipe: any error of a pass or exporter is that recipe's failure, and told so."""
    try:
        preprocess = ()
        for step in chain:
            passed = passes.load(step.use).apply(model, step, passes.Context(samples, "tensor", preprocess))
            model, preprocess = passed.model, passed.preprocess
        for name in exporters.names():
            exporters.load(name).export(model)
    except EdgewardError:
        return
    except Exception as error:  # noqa: BLE001 - as the optimiser, which makes any of them one failed trial
        print(f"# {type(error).__name__}: {' '.join(str(error).split())[:150]}", file=sys.stderr)


def main() -> None:
    for line in sys.stdin:
        file = Path(line.strip())
        start = time.perf_counter()
        try:
            ending = survey(file)
        except EdgewardError as error:
            ending = f"told: {error.message}"
        except Exception:  # noqa: BLE001 - what this test looks for
            ending = "TRACEBACK " + traceback.format_exc().replace("\n", " | ")
        print(f"{time.perf_counter() - start:.2f}\t{file}\t{' '.join(ending.split())}", flush=True)


if __name__ == "__main__":
    main()
