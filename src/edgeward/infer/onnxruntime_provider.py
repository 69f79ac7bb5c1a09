"""ONNX Runtime on an execution provider; the nodes that it lacks run on the CPU, and are told.

A provider that takes no node of a model is refused: ONNX Runtime would run it all on the CPU and say nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from edgeward.infer.account import Accountant
from edgeward.infer.onnxruntime_account import account
from edgeward.infer.onnxruntime_session import CPU, OrtSession, opened, options_for, sentence, smoke_model, version
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Unsupported

Options = dict[str, str]
Sizes = dict[str, int]

_SIMULATED = "simulated on the CPU, so that its latency means nothing"
_KINDS_NAMED = 4
"""So many kinds of node are named in a sentence; the others are counted."""


class Provider(NamedTuple):
    """An execution provider, and what it is told: `options` of the model's bytes and the number of threads, as
    https://onnxruntime.ai/docs/execution-providers/ documents them.

    `plugin` is the module of a provider that comes beside ONNX Runtime instead of inside a build of it. `fallbacks`
    get the nodes that it leaves, before the CPU. `session_threads`, where the provider has threads of its own.
    `arithmetic`, where it computes float32 in something else and cannot be told not to. `fixed_shapes`, where it takes
    no node of free dimensions: then there is one session for each size of them. `has_simulator`: on a machine without
    the device it computes on the CPU, which is told, since such a latency means nothing.
    """

    name: str
    install: str
    options: Callable[[bytes, int], Options]
    plugin: str | None = None
    fallbacks: tuple[str, ...] = ()
    session_threads: int | None = None
    entries: Mapping[str, str] = {}
    arithmetic: str | None = None
    fixed_shapes: bool = False
    has_simulator: bool = False


class PlacedSession(OrtSession):
    """`placement` says which nodes the provider took, and where the others run."""

    def __init__(self, session: ort.InferenceSession, placement: str, arithmetic: str | None) -> None:
        super().__init__(session)
        self.placement = placement
        self.arithmetic = arithmetic


class FixedSession:
    """One session for each size of the model's free dimensions; the first, of size 1, is loaded at once."""

    def __init__(self, stated: OrtSession, opened: Callable[[Sizes], PlacedSession]) -> None:
        self.inputs = stated.inputs
        self.outputs = stated.outputs
        self._opened = opened
        first = {dim: 1 for spec in self.inputs for dim in spec.shape if isinstance(dim, str)}
        self._sessions = {tuple(first.items()): opened(first)}
        self.placement = self._sessions[tuple(first.items())].placement
        self.arithmetic = self._sessions[tuple(first.items())].arithmetic

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        sizes = tuple(self._sizes(feeds).items())
        if sizes not in self._sessions:
            self._sessions[sizes] = self._opened(dict(sizes))
        return self._sessions[sizes].run(feeds)

    def _sizes(self, feeds: Tensors) -> Sizes:
        """Of the free dimensions; 1 where `feeds` does not say, which the session then complains about."""
        return {
            dim: feeds[spec.name].shape[axis] if spec.name in feeds and feeds[spec.name].ndim > axis else 1
            for spec in self.inputs
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        }


class OnnxRuntimeOn:
    """The runtime of one provider. Raises Unsupported where the installed build does not have it, ModuleNotFoundError
    where its own package is not installed."""

    formats = ("onnx",)

    def __init__(self, provider: Provider) -> None:
        if provider.plugin is not None:
            _register(provider, import_module(provider.plugin))
        elif provider.name not in ort.get_available_providers():
            raise Unsupported(
                f"{provider.name} is not installed: this build of ONNX Runtime {version()} is without it",
                hint=provider.install,
            )
        self._provider = provider

    def version(self) -> str:
        return version()

    def providers(self) -> tuple[str, ...]:
        simulated = (_SIMULATED,) if self._is_simulated() else ()
        return (self._provider.name, *simulated, *self._provider.fallbacks, CPU)

    def load(self, model: bytes, *, threads: int) -> PlacedSession | FixedSession:
        """Raises Unsupported, too, where the provider does not start here or takes no node of the model."""
        if not self._provider.fixed_shapes:
            return self._placed(model, threads, {})
        stated = OrtSession(opened(model, options_for(1), [CPU]))
        return FixedSession(stated, lambda sizes: self._placed(model, threads, sizes))

    def account(self, model: bytes, *, threads: int) -> Accountant:
        """Of one sample: free dimensions are of size 1. What the provider compiled is one kernel for each part."""
        provider = self._provider
        options = self._options(threads, {})
        return account(
            model, threads=threads, options=options,
            providers=self._offered(options, provider.options(model, threads)),
        )  # fmt: skip

    def smoke_model(self) -> bytes:
        return smoke_model()

    def _options(self, threads: int, sizes: Sizes) -> ort.SessionOptions:
        options = options_for(self._provider.session_threads or threads)
        for key, value in {**self._provider.entries, "session.record_ep_graph_assignment_info": "1"}.items():
            options.add_session_config_entry(key, value)
        for dim, size in sizes.items():
            options.add_free_dimension_override_by_name(dim, size)
        return options

    def _placed(self, model: bytes, threads: int, sizes: Sizes) -> PlacedSession:
        provider = self._provider
        options = self._options(threads, sizes)
        session = opened(model, options, self._offered(options, provider.options(model, threads)))
        if provider.name not in session.get_providers():
            raise Unsupported(
                f"{provider.name} does not start here: its libraries or its device are missing", hint="edgeward probe"
            )
        placement = told(provider.name, assigned(session))
        simulated = f", {_SIMULATED}" if self._is_simulated() else ""
        return PlacedSession(session, placement + simulated, provider.arithmetic)

    def _is_simulated(self) -> bool:
        return self._provider.has_simulator and _is_cpu(self._devices()[0])

    def _offered(self, options: ort.SessionOptions, chosen: Options) -> list[Any] | None:
        """The providers in the order in which they are offered nodes; None where `options` holds them already."""
        if self._provider.plugin is None:
            return [(self._provider.name, chosen), *self._provider.fallbacks, CPU]
        options.add_provider_for_devices(self._devices()[:1], chosen)
        return None

    def _devices(self) -> list[Any]:
        """The plug-in's, the CPU last. Raises Unsupported where there are none."""
        devices = [device for device in ort.get_ep_devices() if device.ep_name == self._provider.name]
        if not devices:
            raise Unsupported(f"{self._provider.name} finds no device here", hint="edgeward probe")
        return sorted(devices, key=_is_cpu)


def assigned(session: Any) -> list[tuple[str, str]]:
    """The provider and the operator of each node, before a provider fuses what it took."""
    parts = session.get_provider_graph_assignment_info()
    return [(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()]


def told(provider: str, nodes: Iterable[tuple[str, str]]) -> str:
    """Which of `nodes` the provider took. Raises Unsupported where it took none of them."""
    places = Counter(place for place, _ in nodes)
    others = Counter(f"{operator} on {_short(place)}" for place, operator in nodes if place != provider)
    count = places.total()
    if count and not places[provider]:
        where = "wholly on the CPU" if set(places) == {CPU} else "wholly elsewhere"
        raise Unsupported(
            f"{_short(provider)} takes none of this model's {count} nodes: it runs {where} ({_counted(others)})",
            hint="take the runtime onnxruntime",
        )
    rest = f"; {_counted(others)}" if others else ""
    return f"{places[provider]} of {count} nodes run on {_short(provider)}{rest}"


def _counted(nodes: Counter[str]) -> str:
    named = nodes.most_common(_KINDS_NAMED)
    rest = nodes.total() - sum(count for _, count in named)
    return ", ".join([*(f"{count} {name}" for name, count in named), *([f"{rest} more"] if rest else [])])


def _is_cpu(device: Any) -> bool:
    return bool(device.device.type == ort.OrtHardwareDeviceType.CPU)


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _register(provider: Provider, package: Any) -> None:
    """Once in a process. Raises Unsupported where the library does not load."""
    if any(device.ep_name == provider.name for device in ort.get_ep_devices()):
        return
    try:
        ort.register_execution_provider_library(provider.name, package.get_library_path())
    except (faults.Fail, faults.RuntimeException, RuntimeError) as error:
        raise Unsupported(f"{provider.name} does not load here: {sentence(error)}") from error
