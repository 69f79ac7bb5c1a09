"""What a device is sent, and what is said where there is nothing to send."""

import pytest
from msgspec.structs import replace

from edgeward.kit.errors import Unsupported
from edgeward.measure.runner import Device, runner_for

PI = Device(python=(3, 11), arch="aarch64", libc=("glibc", "2.36"), emulated=False, found=())


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        (replace(PI, python=(3, 9)), "has Python 3.9, wanted 3.11"),
        (replace(PI, libc=("", "")), "has no glibc"),
        (replace(PI, libc=("musl", "1.2")), "has no glibc"),
    ],
)
def test_a_device_that_no_wheel_fits_is_told(device: Device, sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence):
        runner_for(device, brings_python=False)


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        (
            replace(PI, python=(3, 9), arch="riscv64"),
            "there is no Python to bring along for riscv64",
        ),
        (
            replace(PI, libc=("musl", "1.2")),
            "has no glibc, .* none can be brought along: .* mmdebstrap",
        ),
    ],
)
def test_where_no_python_can_come_along_it_is_told_why(device: Device, sentence: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match=sentence):
        runner_for(device)
