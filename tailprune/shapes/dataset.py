"""*shapes*: a hundred classes, ten shapes in ten colours, drawn procedurally from a seed at any size.

A label is `10 * shape + colour`. Position, size, rotation, brightness and background vary from image to image.
Every shape is the region where a signed distance is negative; a pixel's coverage falls off over one pixel at
the edge, so an image of any size is antialiased without drawing it larger first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["CLASS_NAMES", "COLOURS", "NUM_CLASSES", "SHAPES", "draw"]


def _box(p: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(p[0].abs() - half_width, p[1].abs() - half_height)


def _circle(p: Tensor) -> Tensor:
    return p.norm(dim=0) - 0.92


def _square(p: Tensor) -> Tensor:
    return _box(p, 0.8, 0.8)


def _triangle(p: Tensor) -> Tensor:
    x, y = p[0].abs(), p[1] + 0.15
    return torch.maximum(-y - 0.55, (math.sqrt(3) * x + y) / 2 - 0.55)


def _cross(p: Tensor) -> Tensor:
    return torch.minimum(_box(p, 0.98, 0.32), _box(p, 0.32, 0.98))


def _ring(p: Tensor) -> Tensor:
    return (p.norm(dim=0) - 0.74).abs() - 0.22


def _star(p: Tensor) -> Tensor:
    sector = 2 * math.pi / 5
    angle = torch.atan2(p[0], p[1])
    folded = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    x, y = p.norm(dim=0) * folded.cos(), p.norm(dim=0) * folded.sin()
    outer, inner = 1.1, 0.46  # the radii of a tip and of a notch, half a sector apart
    nx, ny = inner * math.sin(sector / 2), outer - inner * math.cos(sector / 2)
    return (nx * (x - outer) + ny * y) / math.hypot(nx, ny)


def _moon(p: Tensor) -> Tensor:
    bite = torch.hypot(p[0] - 0.55, p[1] - 0.1) - 0.78
    return torch.maximum(p.norm(dim=0) - 0.98, -bite)


def _heart(p: Tensor) -> Tensor:
    x, y = p[0].abs(), p[1]
    lobes = torch.hypot(x - 0.46, y - 0.34) - 0.5
    wedge = torch.maximum((x - y - 1.0) / math.sqrt(2), y - 0.34)  # its tip at (0, -1)
    return torch.minimum(lobes, torch.maximum(wedge, x - 0.9))


def _bar(p: Tensor) -> Tensor:
    return _box(p, 1.05, 0.3)


def _hourglass(p: Tensor) -> Tensor:
    return torch.maximum((p[0].abs() - 0.85 * p[1].abs() - 0.08) / math.hypot(1, 0.85), p[1].abs() - 0.92)


_DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
    "moon": _moon,
    "heart": _heart,
    "bar": _bar,
    "hourglass": _hourglass,
}

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.14),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (1.00, 0.93, 0.20),
    "green": (0.15, 0.68, 0.22),
    "cyan": (0.20, 0.85, 0.92),
    "blue": (0.14, 0.28, 0.95),
    "purple": (0.52, 0.14, 0.75),
    "pink": (1.00, 0.52, 0.80),
    "white": (0.98, 0.98, 0.98),
    "black": (0.04, 0.04, 0.04),
}
"""RGB in [0, 1] at full brightness."""

SHAPES = tuple(_DISTANCES)
CLASS_NAMES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
NUM_CLASSES = len(CLASS_NAMES)


def draw(labels: Tensor, generator: torch.Generator, size: int = 16) -> Tensor:
    """Draw one image per label -> (B, 3, size, size), in [-1, 1].

    labels: with shape (B,), from 0 to 99
    generator: the source of all random numbers
    size: the side of an image in pixels, 16 by default

    Raises InputError for other labels.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < NUM_CLASSES:
        raise InputError(f"labels of shapes must be from 0 to {NUM_CLASSES - 1}")
    count = len(labels)
    u = torch.rand(count, 10, generator=generator)
    centre = (u[:, 0:2] - 0.5) * 0.5
    scale = 0.52 + 0.16 * u[:, 2]
    angle = (u[:, 3] - 0.5) * 0.6
    brightness = 0.85 + 0.15 * u[:, 4]
    backdrop = 0.36 + 0.24 * u[:, 5:6] + 0.06 * (u[:, 6:9] - 0.5)  # nearly grey, (B, 3)
    slope = 0.16 * (u[:, 9] - 0.5)

    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = axis.expand(size, size), -axis[:, None].expand(size, size)  # y points up
    dx = x - centre[:, 0, None, None]
    dy = y - centre[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    p = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx]) / scale[:, None, None]  # (2, B, size, size)

    distance = torch.empty(count, size, size)
    shape = labels // len(COLOURS)
    for index, function in enumerate(_DISTANCES.values()):
        rows = shape == index
        distance[rows] = function(p[:, rows])
    coverage = (0.5 - distance * scale[:, None, None] * size / 2).clamp(0, 1).unsqueeze(1)

    paint = torch.tensor(list(COLOURS.values()))[labels % len(COLOURS)] * brightness[:, None]
    backdrop = backdrop[:, :, None, None] + slope[:, None, None, None] * y
    image = coverage * paint[:, :, None, None] + (1 - coverage) * backdrop
    return image.clamp(0, 1) * 2 - 1
