"""This machine in the place of another one, of which only a profile is at hand."""

from functools import cached_property

import msgspec
from msgspec.structs import replace

from edgeward.kit.errors import Unsupported
from edgeward.measure.jobs import Facts
from edgeward.measure.place import HERE, Here, Place
from edgeward.records.candidate import Timing
from edgeward.records.target import Target


class Profiled(Here):
    """Candidates for the profile's machine, measured here: size holds there too, times and memory are forecasts."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @cached_property
    def facts(self) -> Facts:
        target = self.target
        return replace(HERE.facts, name=target.name, arch=target.arch, cpu_features=target.cpu_features)

    @property
    def timing(self) -> Timing:
        return "forecast"

    @property
    def key(self) -> str:
        return f"{HERE.key} for {msgspec.json.encode(self.target).decode()}"

    def version(self, runtime: str) -> str:
        if runtime not in self.target.runtimes:
            raise Unsupported(f"the profile of {self.target.name} names no {runtime}")
        return super().version(runtime)


def place_for(target: Target) -> Place:
    """Where candidates for the profile's machine are measured without it: here, and no forecast where it is this."""
    here = HERE.facts
    mine = (here.name, here.arch, here.cpu, here.cpu_features)
    theirs = (target.name, target.arch, target.cpu or here.cpu, target.cpu_features)
    return HERE if mine == theirs else Profiled(target)
