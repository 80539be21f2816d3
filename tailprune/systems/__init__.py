"""The architecture families, by name."""

from tailprune.systems.base import Condition, Inputs, System
from tailprune.systems.dit import DiT, LabelCondition, SiT

__all__ = ["SYSTEMS", "Condition", "DiT", "Inputs", "LabelCondition", "SiT", "System"]

SYSTEMS: dict[str, type[System]] = {system.family: system for system in (DiT, SiT)}
