"""A policy that learns the sizes of programs, class by class, while they run."""

from autellix.policies.gittins.index import Objective
from autellix.policies.gittins.policy import Gittins
from autellix.policies.gittins.sizes import ClassSizes, SizeModel, Sizes
from autellix.policies.gittins.table import IndexTable, LearnedRow

__all__ = [
    "ClassSizes",
    "Gittins",
    "IndexTable",
    "LearnedRow",
    "Objective",
    "SizeModel",
    "Sizes",
]
