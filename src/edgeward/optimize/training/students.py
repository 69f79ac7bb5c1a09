"""Efficient networks, scaled in width, for images of 16 to 256 pixels and for spectrograms.

Each takes any number of channels and gives any number of scores. A network halves its resolution up to five times;
where the input is small the earliest of these steps stay at full resolution, so that the last map is about 4×4.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from edgeward.kit.errors import WrongInput


class Plan(NamedTuple):
    """What a student is built for: input channels, height and width, the number of scores, and its width."""

    channels: int
    height: int
    width: int
    scores: int
    multiplier: float


def build(name: str, plan: Plan) -> nn.Module:
    """An untrained student. Raises WrongInput for a name or a size that cannot be."""
    if name not in STUDENTS:
        raise WrongInput(f"--student: there is no {name!r}; there are {', '.join(STUDENTS)}")
    if min(plan.height, plan.width) < 4:
        raise WrongInput(f"a student wants at least 4x4 points, the input has {plan.height}x{plan.width}")
    network = STUDENTS[name](plan)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
    return network


def cost(network: nn.Module, plan: Plan) -> tuple[int, int]:
    """Multiply-accumulates of one sample, and parameters as they are in the file (normalisations folded)."""
    macs = parameters = 0
    value = torch.zeros(1, plan.channels, plan.height, plan.width)

    def count(part: nn.Module, _: object, made: torch.Tensor) -> None:
        nonlocal macs, parameters
        if isinstance(part, nn.Conv2d):
            macs += made.numel() * part.weight[0].numel()
            parameters += part.weight.numel() + part.out_channels
        elif isinstance(part, nn.Linear):
            macs += part.weight.numel()
            parameters += part.weight.numel() + part.out_features

    hooks = [part.register_forward_hook(count) for part in network.modules()]
    network.eval()
    with torch.no_grad():
        network(value)
    for hook in hooks:
        hook.remove()
    return macs, parameters


def _rounded(channels: float, step: int = 8) -> int:
    """A multiple of 8, which kernels like, never more than a tenth below what was asked."""
    whole = max(step, int(channels + step / 2) // step * step)
    return whole + step if whole < 0.9 * channels else whole


def _strides(plan: Plan, count: int) -> list[int]:
    """For each of `count` halving places 2, or 1 for the first ones where the input is small."""
    halvings = max(0, min(count, round(math.log2(min(plan.height, plan.width) / 4))))
    return [1] * (count - halvings) + [2] * halvings


def _conv(
    into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU6
) -> nn.Sequential:
    parts = [nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*parts, *([act()] if act else []))


def _head(into: int, scores: int, dropout: float = 0.1) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(into, scores))


class _Gate(nn.Module):
    """Squeeze and excitation: each channel is weighed by what all of them are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _rounded(channels / 4)
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value * self.body(value)  # type: ignore[no-any-return]


class _Inverted(nn.Module):
    """Widen, filter each channel alone, narrow; the sum with the input where shapes allow."""

    def __init__(
        self, into: int, inner: int, out: int, *, kernel: int, stride: int, act: type[nn.Module], gate: bool = False
    ) -> None:
        super().__init__()
        self.adds = stride == 1 and into == out
        widen = [_conv(into, inner, 1, act=act)] if inner != into else []
        middle = [_conv(inner, inner, kernel, stride, inner, act), *([_Gate(inner)] if gate else [])]
        self.body = nn.Sequential(*widen, *middle, _conv(inner, out, 1, act=None))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.body(value)
        return value + made if self.adds else made


def mobilenet_v2(plan: Plan) -> nn.Module:
    """Sandler et al., 2018 (arXiv 1801.04381), table 2."""
    rows = [(1, 16, 1, 0), (6, 24, 2, 1), (6, 32, 3, 1), (6, 64, 4, 1), (6, 96, 3, 0), (6, 160, 3, 1), (6, 320, 1, 0)]
    strides = _strides(plan, 5)
    into = _rounded(32 * plan.multiplier)
    parts: list[nn.Module] = [_conv(plan.channels, into, 3, strides.pop(0))]
    for widening, channels, repeats, halves in rows:
        out = _rounded(channels * plan.multiplier)
        for turn in range(repeats):
            stride = strides.pop(0) if halves and turn == 0 else 1
            parts.append(_Inverted(into, into * widening, out, kernel=3, stride=stride, act=nn.ReLU6))
            into = out
    last = _rounded(1280 * plan.multiplier)
    return nn.Sequential(*parts, _conv(into, last, 1), _head(last, plan.scores))


def mobilenet_v3(plan: Plan) -> nn.Module:
    """Howard et al., 2019 (arXiv 1905.02244), table 2: the small one."""
    rows = [  # kernel, inner, out, gate, hard swish, halves
        (3, 16, 16, True, False, True), (3, 72, 24, False, False, True), (3, 88, 24, False, False, False),
        (5, 96, 40, True, True, True), (5, 240, 40, True, True, False), (5, 240, 40, True, True, False),
        (5, 120, 48, True, True, False), (5, 144, 48, True, True, False), (5, 288, 96, True, True, True),
        (5, 576, 96, True, True, False), (5, 576, 96, True, True, False),
    ]  # fmt: skip
    strides = _strides(plan, 5)
    into = _rounded(16 * plan.multiplier)
    parts: list[nn.Module] = [_conv(plan.channels, into, 3, strides.pop(0), act=nn.Hardswish)]
    for kernel, inner, channels, gate, swish, halves in rows:
        out, wide = _rounded(channels * plan.multiplier), _rounded(inner * plan.multiplier)
        stride = strides.pop(0) if halves else 1
        act = nn.Hardswish if swish else nn.ReLU
        parts.append(_Inverted(into, wide, out, kernel=kernel, stride=stride, act=act, gate=gate))
        into = out
    last = _rounded(576 * plan.multiplier)
    return nn.Sequential(*parts, _conv(into, last, 1, act=nn.Hardswish), _head(last, plan.scores))


class _Shuffled(nn.Module):
    """ShuffleNetV2's unit: one half goes past, one is filtered, and the halves are dealt together like cards."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.halves = stride == 1 and into == out
        body_in = half if self.halves else into
        self.body = nn.Sequential(
            _conv(body_in, half, 1, act=nn.ReLU), _conv(half, half, 3, stride, half, None),
            _conv(half, half, 1, act=nn.ReLU),
        )  # fmt: skip
        self.past = nn.Sequential() if self.halves else nn.Sequential(
            _conv(into, into, 3, stride, into, None), _conv(into, half, 1, act=nn.ReLU)
        )  # fmt: skip

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        past, taken = value.chunk(2, 1) if self.halves else (value, value)
        joined = torch.cat((self.past(past), self.body(taken)), 1)
        _, channels, height, width = joined.shape
        return joined.reshape(-1, 2, channels // 2, height, width).transpose(1, 2).reshape(-1, channels, height, width)


def shufflenet_v2(plan: Plan) -> nn.Module:
    """Ma et al., 2018 (arXiv 1807.11164), table 5, the 1× column; its pooling after the first layer is a stride."""
    strides = _strides(plan, 5)
    into = _rounded(24 * plan.multiplier)
    parts: list[nn.Module] = [
        _conv(plan.channels, into, 3, strides.pop(0), act=nn.ReLU),
        nn.MaxPool2d(3, 2, 1) if strides.pop(0) == 2 else nn.Identity(),
    ]
    for channels, repeats in ((116, 4), (232, 8), (464, 4)):
        out = _rounded(channels * plan.multiplier, 16)
        stride = strides.pop(0)
        for turn in range(repeats):
            parts.append(_Shuffled(into, out, stride if turn == 0 else 1))
            into = out
    last = _rounded(1024 * plan.multiplier)
    return nn.Sequential(*parts, _conv(into, last, 1, act=nn.ReLU), _head(last, plan.scores))


def ds_cnn(plan: Plan) -> nn.Module:
    """Zhang et al., 2017 (arXiv 1711.07128), the medium one: a wide first filter, then depthwise-separable layers."""
    channels = _rounded(172 * plan.multiplier)
    halvings = sum(stride == 2 for stride in _strides(plan, 2))
    parts: list[nn.Module] = [_first_filter(plan, channels, 2 if halvings else 1)]
    for place in range(4):
        stride = 2 if place == 0 and halvings > 1 else 1
        parts += [
            _conv(channels, channels, 3, stride, channels, nn.ReLU), _conv(channels, channels, 1, act=nn.ReLU),
        ]  # fmt: skip
    return nn.Sequential(*parts, _head(channels, plan.scores, 0.2))


def _first_filter(plan: Plan, channels: int, stride: int) -> nn.Sequential:
    height, width = min(11, plan.height | 1), min(5, plan.width | 1)
    if plan.channels == 3:  # an image is no spectrogram: its first filter is square
        height = width = 3
    return nn.Sequential(
        nn.Conv2d(plan.channels, channels, (height, width), stride, (height // 2, width // 2), bias=False),
        nn.BatchNorm2d(channels), nn.ReLU(),
    )  # fmt: skip


STUDENTS: dict[str, Callable[[Plan], nn.Module]] = {
    "mobilenet-v3": mobilenet_v3, "mobilenet-v2": mobilenet_v2, "shufflenet-v2": shufflenet_v2, "ds-cnn": ds_cnn,
}  # fmt: skip
