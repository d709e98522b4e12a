"""Makes the simulated cells importable, which `benchmarks/rule.py` uses too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
