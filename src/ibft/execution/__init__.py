"""Program and tests in, verdict out: generated code, run where it can do no harm.

`execute`, `execute_all` and `execute_async` judge answers from a program of your own; `judging` judges a file of
samples. The layers, from the outside in: `pool` (many jobs at once), `examiner` (a process for each worker),
`workplace` (the state of that process), `languages` (one file for each language), `sandbox` and `inside/` (the
locked-down processes). `ray` and `service` are pools on other machines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibft.execution.api import execute, execute_all, execute_async
    from ibft.execution.languages import LANGUAGES, Language
    from ibft.execution.outcome import Job, Outcome, Reference
    from ibft.execution.pool import FuturePool, Pool, PoolLike
    from ibft.execution.references import check_references
    from ibft.execution.sandbox import Limits

__all__ = [
    "LANGUAGES",
    "FuturePool",
    "Job",
    "Language",
    "Limits",
    "Outcome",
    "Pool",
    "PoolLike",
    "Reference",
    "check_references",
    "execute",
    "execute_all",
    "execute_async",
]

_HOMES = {
    "api": ("execute", "execute_all", "execute_async"),
    "languages": ("LANGUAGES", "Language"),
    "outcome": ("Job", "Outcome", "Reference"),
    "pool": ("FuturePool", "Pool", "PoolLike"),
    "references": ("check_references",),
    "sandbox": ("Limits",),
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: this file runs in every worker's process, which needs few of these modules.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
