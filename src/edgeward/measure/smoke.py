"""Does a runtime really run here? Each answers a one-node model in a process of its own, so that a crash is an answer.

`python -m edgeward.measure.smoke NAME` is that process: it prints a RuntimeFound as JSON.
"""

import os
import sys
from collections.abc import Collection
from importlib.util import find_spec
from typing import BinaryIO

from edgeward.infer import runtimes
from edgeward.kit import codec, process
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.records.target import RuntimeFound

LIMIT_S = 60
TEST_MEMBERS = ("echo",)
"""Runtimes that exist for tests; people are not shown them."""


_NEEDS = {"litert-amx": {"amx_int8"}, "openvino-bf16": {"amx_bf16", "avx512_bf16"}}
"""CPU features without any of which a runtime is not for this machine at all."""


_PLAIN_PROVIDERS = {"CPUExecutionProvider", "AzureExecutionProvider"}
_PROVIDER_PACKAGES = ("onnxruntime_qnn", "onnxruntime_ep_webgpu")


def runtimes_found(cpu_features: Collection[str]) -> tuple[RuntimeFound, ...]:
    """Every runtime we know how to drive, each tried once. Takes about half a second for each that is installed.

    ONNX Runtime's execution providers are among them where the installed build, or a package beside it, has some.
    """
    wanted = [
        name
        for name in runtimes.names()
        if name not in TEST_MEMBERS and (name not in _NEEDS or _NEEDS[name] & set(cpu_features))
    ]
    found = [smoke(name) for name in wanted if not _is_provider(name)]
    if _has_providers(found):
        tried = [smoke(name) for name in wanted if _is_provider(name)]
        found += [provider for provider in tried if not is_absent(provider)]
    return tuple(sorted(found, key=lambda runtime: runtime.name))


def is_absent(runtime: RuntimeFound) -> bool:
    """Whether it does not run because nobody installed it, which is no fault of the machine."""
    return runtime.version is None and "not installed" in runtime.reason


def _is_provider(name: str) -> bool:
    return name.startswith("onnxruntime-")


def _has_providers(found: Collection[RuntimeFound]) -> bool:
    built_in = {provider for one in found if one.name == "onnxruntime" for provider in one.providers}
    return bool(built_in - _PLAIN_PROVIDERS) or any(find_spec(name) is not None for name in _PROVIDER_PACKAGES)


def smoke(name: str) -> RuntimeFound:
    """The runtime `name`, tried in a process of its own. Never raises: what went wrong is the reason."""
    # -P keeps a file of the current folder from standing in for a package.
    command = [sys.executable, "-P", "-m", "edgeward.measure.smoke", name]
    try:
        finished = process.run(command, limit_s=LIMIT_S)
        if finished.code == 0:
            return codec.from_json(finished.output, RuntimeFound, f"the smoke inference of {name}")
    except EdgewardError as error:
        return _broken(name, None, error.message)
    last = finished.complaint.splitlines()[-1:] or ["it said nothing"]
    return _broken(name, None, f"its smoke inference ended with {finished.ending}: {last[0]}")


def tried_here(name: str) -> RuntimeFound:
    """The same inside this process, which a broken runtime may end."""
    import numpy as np

    try:
        runtime = runtimes.load(name)
    except Unsupported as error:
        return _broken(name, None, error.message + (f" ({error.hint})" if error.hint else ""))
    except ImportError as error:
        return _broken(name, None, f"installed, but it does not load: {error}")
    try:
        given = np.array([1.0, -2.5, 3.0], np.float32)
        (got,) = runtime.load(runtime.smoke_model(), threads=1).run({"x": given})
    except EdgewardError as error:
        return _broken(name, runtime.version(), error.message)
    if not np.array_equal(got, 2 * given):
        return _broken(name, runtime.version(), f"doubling 1, -2.5, 3 gave {got.tolist()}")
    return RuntimeFound(
        name=name, version=runtime.version(), works=True, reason="a one-node model gave the right answer",
        providers=runtime.providers(),
    )  # fmt: skip


def _broken(name: str, version: str | None, reason: str) -> RuntimeFound:
    return RuntimeFound(name=name, version=version, works=False, reason=reason)


def _own_output() -> BinaryIO:
    """Standard output, for us alone: what a runtime's libraries print there goes nowhere."""
    output = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return output


if __name__ == "__main__":
    with _own_output() as answer:
        answer.write(codec.to_json(tried_here(sys.argv[1])))
