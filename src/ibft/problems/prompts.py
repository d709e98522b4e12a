"""Prompts of benchmarks whose problems are texts: Python that adds nothing to the program that continues it."""

from __future__ import annotations

__all__ = ["as_docstring"]


def as_docstring(text: str) -> str:
    """Return the text as the docstring of a module: the model writes the whole program after it."""
    # Unescaped, a quote or backslash of the text (regular expressions) would end the docstring or change it.
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{escaped}\n"""\n'
