"""The grammar of edits: condition vectors moved from one class towards another, how far, and on which steps.

Requests resolve to an `EditSpec` for each strength, workers apply it, results show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from tailprune.spec import InputError
from tailprune.spec.prune import EVERY, Schedule, plain

__all__ = ["MOST_STRENGTH", "EditSpec", "ModulationGuidance", "check_moved"]

MOST_STRENGTH = 16.0
"""The greatest strength of an edit, and weight of modulation guidance, in either direction."""


def check_moved(components: int | None, directions: int | None) -> None:
    """Raise InputError where both are given: an edit moves some components, some directions, or all."""
    if components is not None and directions is not None:
        raise InputError("give components or directions, not both: an edit moves some of one of them, or all")


@dataclass(frozen=True)
class EditSpec:
    """One edit: c plus `strength` times the difference of the mean of `target` and that of `source`."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    source: tuple[int, ...] = field(
        metadata={"description": "The labels, or the rows of the conditions, whose mean the edit leads away from."}
    )
    target: tuple[int, ...] = field(metadata={"description": "Those whose mean it leads towards."})
    strength: float = field(
        default=1.0,
        metadata={
            "ge": -MOST_STRENGTH,
            "le": MOST_STRENGTH,
            "description": "How far: 0 leaves c as it is, 1 adds the whole difference, a negative one leads away.",
        },
    )
    components: int | None = field(
        default=None,
        metadata={
            "ge": 1,
            "description": "How many components are moved, those in which the difference changes the modulations most; "
            "null for all.",
        },
    )
    directions: int | None = field(
        default=None,
        metadata={
            "ge": 1,
            "description": "In place of components, along how many principal directions of the classes, those in which "
            "the difference changes the modulations most.",
        },
    )
    schedule: Schedule = EVERY

    def __post_init__(self) -> None:
        check_moved(self.components, self.directions)

    @property
    def name(self) -> str:
        """The edit in words, unique among those of a request: `strength 0.5`, `strength 1, 16 components`."""
        parts = [f"strength {plain(self.strength)}"]
        if self.strength and self.components is not None:
            parts.append(f"{self.components} components")
        if self.strength and self.directions is not None:
            parts.append(f"{self.directions} directions")
        if self.strength and self.schedule != EVERY:
            parts.append(self.schedule.name)
        return ", ".join(parts)


@dataclass(frozen=True)
class ModulationGuidance:
    """Modulation guidance (arXiv 2602.09268): c + weight (c+ - c-), without a second call of the network."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    weight: float = field(
        metadata={
            "ge": -MOST_STRENGTH,
            "le": MOST_STRENGTH,
            "description": "How far the condition of each sample is moved; 0 leaves it as it is.",
        }
    )
    plus: int | None = field(
        default=None, metadata={"ge": 0, "description": "The class of c+; by default each sample's own condition."}
    )
    minus: int | None = field(
        default=None, metadata={"ge": 0, "description": "The class of c-; by default the null condition."}
    )

    def __post_init__(self) -> None:
        if self.plus is not None and self.plus == self.minus:
            raise InputError(f"plus and minus are both class {self.plus}, which moves nothing: give two classes")
