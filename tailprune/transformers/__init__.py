"""Large transformers of diffusers: what their AdaLN takes, and what it needs.

classes     what makes c in each class, and which linear layers read it
source      folders, files and the hub: headers when opened, rows of tensors on demand
ranks       how many directions the time's curve needs
describe    all of it for one model: `anatomy`
text        an anatomy in a terminal
"""

from tailprune.transformers.describe import Anatomy, Group, Replacement, anatomy
from tailprune.transformers.ranks import Ranks
from tailprune.transformers.text import as_text

__all__ = ["Anatomy", "Group", "Ranks", "Replacement", "anatomy", "as_text"]
