"""Large transformers of diffusers: what their AdaLN takes and needs, and the same models with a smaller one.

`tailprune.spec.transformers` has the classes: what makes c in each, and which linear layers read it.

recognise   which class the tensors are of
source      folders, files and the hub: headers when opened, rows of tensors on demand
ranks       c at some times, and how many directions the time's curve needs
describe    all of it for one model: `anatomy`
text        an anatomy in a terminal
population  pooled texts that a compaction covers; prompts makes them, and sizes_and_classes the other inputs of c
schedule    the vectors that a compaction covers
renaming    a whole model by diffusers' names, whichever it was stored under: original_names has them, configurations
            what its tensors tell of diffusers' configuration
vectors     c over the times of a schedule, and the parts that it is the sum of: `condition_vectors`
directions  what AdaLN reads in place of SiLU(c)
rewriting   a compacted model, written shard by shard: `compact`
account     what a compacted folder says of itself
writing     configuration, index and room of a folder of weights
verifying   whether a compacted model is what it says: `verify`
modeling    the layers that are exchanged in diffusers' class; goes with the weights for `trust_remote_code`
loading     a compacted model as diffusers' class: `load_transformer`
adapters    what a file of a LoRA changes, of which layers; alphas has the scale that it is described with
projecting  changes of a whole model's layers as those of a compacted one's
lora        a LoRA for a compacted model: `project_lora`; merging writes the model with it
layouts     how other programs name and order the tensors of a compacted MiniMax-H3
compacted   one in any of these layouts, read under diffusers' names
converting  and written in another: `convert`
"""

from tailprune.transformers.account import Written
from tailprune.transformers.converting import Converted, convert
from tailprune.transformers.describe import Anatomy, Group, Replacement, anatomy
from tailprune.transformers.loading import load_transformer
from tailprune.transformers.lora import ProjectedLora, project_lora
from tailprune.transformers.ranks import Ranks
from tailprune.transformers.rewriting import compact
from tailprune.transformers.text import as_text
from tailprune.transformers.vectors import ConditionVectors, Summand, condition_vectors
from tailprune.transformers.verifying import Verified, verify

__all__ = [
    "Anatomy",
    "ConditionVectors",
    "Converted",
    "Group",
    "ProjectedLora",
    "Ranks",
    "Replacement",
    "Summand",
    "Verified",
    "Written",
    "anatomy",
    "as_text",
    "compact",
    "condition_vectors",
    "convert",
    "load_transformer",
    "project_lora",
    "verify",
]
