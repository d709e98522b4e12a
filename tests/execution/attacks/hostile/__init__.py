"""Programs that attack the judge, and the arena in which they try. Everything here is harmless even where it succeeds.

`arena.py` runs one program amid the baits of `baits.py` and says what it achieved; the other modules
hold the programs, a family each. Used by the tests beside this folder and by benchmarks/hostile.py.
"""

from __future__ import annotations

from hostile import cheats, exits, files, forgery, kernel, network, poison, processes, reading, resources
from hostile.arena import Arena, Attack, Report

__all__ = ["ATTACKS", "Arena", "Attack", "Report"]

ATTACKS: tuple[Attack, ...] = (
    *cheats.ATTACKS,
    *forgery.ATTACKS,
    *exits.ATTACKS,
    *reading.ATTACKS,
    *files.ATTACKS,
    *network.ATTACKS,
    *processes.ATTACKS,
    *kernel.ATTACKS,
    *resources.ATTACKS,
    *poison.ATTACKS,
)
