"""The architecture families, by name.

base            `Condition` and `System`: c = condition(t, inputs), out = forward(x, c)
layers          AdaLN, embedders, attention, MLP, the final layer
dit             DiT: the label condition and the transformer that most others build on; read this family first
sit             SiT, REPA and MG: DiT's network, trained for velocities
mdt             MDT: masked blocks, an encoder with skips and a decoder
lightningdit    LightningDiT: RMSNorm, SwiGLU and rotary positions
features        what X-MDPT and MDSGen share: conditions made of feature tokens
x_mdpt          X-MDPT: a person in another pose
mdsgen          MDSGen: sound for a video
config          the size of a transformer
infer           configurations read from the names and shapes of a file's tensors
readers         what AdaLN reads of c in a compacted system
narrow          replaces the AdaLN of a full system by that of a compacted one
kernels         products, attention and GELU, each in the form that is fastest on this CPU
choices         which form that is: measured once, and kept in a file
speed           the forms of a system's layers, and whether it is faster in bfloat16
"""

from tailprune.systems.base import Condition, Inputs, InputsLike, System
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
    "InputsLike",
    "LabelCondition",
    "LightningDiT",
    "MDSGen",
    "SiT",
    "System",
]

SYSTEMS: dict[str, type[System]] = {
    system.family: system for system in (DiT, SiT, MDT, LightningDiT, REPA, MG, XMDPT, MDSGen)
}
