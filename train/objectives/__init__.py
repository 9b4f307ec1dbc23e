"""Training objectives, and gradient caching over any of them."""

from train.objectives.contrastive import ContrastiveObjective
from train.objectives.multi_positive import MultiPositiveObjective
from train.objectives.objective import Objective
from train.objectives.unicl import UniCLObjective

#: Objectives by the name that a recipe has for them (argument `objective`).
OBJECTIVES: dict[str, type[Objective]] = {
    "contrastive": ContrastiveObjective,
    "multi_positive": MultiPositiveObjective,
    "unicl": UniCLObjective,
}
