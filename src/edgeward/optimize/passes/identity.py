"""The pass that changes nothing: the reference for what a pass promises, and the recipe "as it is"."""

import onnx

from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.records.candidate import Step


class Identity:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - the promise
        return Passed(model, context.preprocess)


plugin: Pass = Identity()
