"""The architecture families, by name."""

from tailprune.systems.base import Condition, Inputs, System
from tailprune.systems.dit import DiT, LabelCondition
from tailprune.systems.lightningdit import LightningDiT
from tailprune.systems.mdsgen import MDSGen
from tailprune.systems.mdt import MDT
from tailprune.systems.sit import MG, REPA, SiT
from tailprune.systems.x_mdpt import XMDPT

__all__ = [
    "MDT",
    "MG",
    "REPA",
    "SYSTEMS",
    "XMDPT",
    "Condition",
    "DiT",
    "Inputs",
    "LabelCondition",
    "LightningDiT",
    "MDSGen",
    "SiT",
    "System",
]

SYSTEMS: dict[str, type[System]] = {
    system.family: system for system in (DiT, SiT, MDT, LightningDiT, REPA, MG, XMDPT, MDSGen)
}
