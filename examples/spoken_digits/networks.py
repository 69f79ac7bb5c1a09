"""Three networks for the same job: log-mel energies (batch, 1, frames, mels) → scores (batch, 10).

`mean` and `std` are of the training energies; each network normalises its input itself.
"""

import torch
from torch import nn

FRAMES, MELS, DIGITS = 61, 40, 10


class Plain(nn.Module):
    """Four convolutions; about 110,000 parameters."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        widths = ((1, 32, 2), (32, 64, 2), (64, 64, 1), (64, 96, 2))
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
                for into, out, stride in widths
            ),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, DIGITS),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body((features - self.mean) / self.std)  # type: ignore[no-any-return]


class DsCnn(nn.Module):
    """The depthwise-separable network of "Hello Edge" (Zhang and others, 2017), small: 25,000 parameters."""

    def __init__(self, mean: float, std: float, width: int = 64) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        layers: list[nn.Module] = [
            nn.Conv2d(1, width, (10, 4), 2, (4, 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(4):
            layers += [nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, DIGITS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body((features - self.mean) / self.std)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer encoder of two layers over the frames, four heads, width 64; about 75,000 parameters."""

    def __init__(self, mean: float, std: float, width: int = 64) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.enter = nn.Linear(MELS, width)
        self.places = nn.Parameter(torch.randn(1, FRAMES, width) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(width, 4) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, DIGITS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tokens = self.enter(((features - self.mean) / self.std).squeeze(1)) + self.places
        for layer in self.layers:
            tokens = layer(tokens)
        return self.leave(self.norm(tokens).mean(1))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention over all frames, then two products with a GELU; each is added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        shape = (-1, FRAMES, self.heads, self.size)
        query, key, value = (
            part.reshape(shape).transpose(1, 2) for part in self.mixed(self.first(tokens)).chunk(3, dim=-1)
        )
        weights = (query @ key.transpose(2, 3) / self.size**0.5).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(-1, FRAMES, self.heads * self.size)
        tokens = tokens + self.out(mixed)
        return tokens + self.body(self.second(tokens))  # type: ignore[no-any-return]


NETWORKS = {"plain": Plain, "ds-cnn": DsCnn, "transformer": Encoder}
