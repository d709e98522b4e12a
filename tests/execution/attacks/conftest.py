"""The hostile programs' package is found here, and the arenas are built once for all tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ibft.execution.inside import lockdown

sys.path.insert(0, str(Path(__file__).parent))
from hostile import Arena


@pytest.fixture(scope="package")
def arena() -> Iterator[Callable[..., Arena]]:
    """Arenas by level and by what is left out, each built when it is first needed."""
    if not lockdown.landlock_abi():
        pytest.skip("this kernel has no Landlock")
    arenas: dict[tuple[str, str], Arena] = {}
    with ExitStack() as cleanup:

        def at(level: str, without: str = "") -> Arena:
            key = (level, without)
            if key not in arenas:
                arenas[key] = cleanup.enter_context(Arena(level, {without} - {""}))  # type: ignore[arg-type]
            return arenas[key]

        yield at
