"""Fine-tune code LLMs on data they may have memorized, and measure honestly what came of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ExecutedEvaluation",
    "IBConfig",
    "IBTrainer",
    "Pool",
    "__version__",
    "execute",
    "execute_all",
    "execute_async",
    "min_k_prob",
    "pass_at_k",
    "pass_at_k_m",
]

if TYPE_CHECKING:
    from ibft.evaluation.executed import ExecutedEvaluation
    from ibft.execution import Pool, execute, execute_all, execute_async
    from ibft.scoring.scores import min_k_prob
    from ibft.statistics.pass_at_k import pass_at_k, pass_at_k_m
    from ibft.training.trainer import IBConfig, IBTrainer

_HOME = {
    "ExecutedEvaluation": "ibft.evaluation.executed",
    "IBConfig": "ibft.training.trainer",
    "IBTrainer": "ibft.training.trainer",
    "Pool": "ibft.execution",
    "execute": "ibft.execution",
    "execute_all": "ibft.execution",
    "execute_async": "ibft.execution",
    "min_k_prob": "ibft.scoring.scores",
    "pass_at_k": "ibft.statistics.pass_at_k",
    "pass_at_k_m": "ibft.statistics.pass_at_k",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import ibft` loads neither torch nor NumPy."""
    if name not in _HOME:
        raise AttributeError(f"module 'ibft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
