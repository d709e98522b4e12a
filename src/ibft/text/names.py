"""Find the names that a program takes from outside, without running it.

Tests that run outside of the sandbox need a stand-in for every name that only the candidate defines: the free names
of the tests, less what the setup binds, less the builtins.
"""

from __future__ import annotations

import symtable

__all__ = ["bound_names", "free_names"]


def free_names(source: str) -> set[str]:
    """Return the names that a program reads without ever binding them, builtins included.

    The order of statements is not looked at: a name that is bound anywhere at the top level is not free. Names that
    are only made at run time (`globals()`, `exec`, `from x import *`) are not seen.

    Raises:
        SyntaxError: the source does not compile.
        ValueError: it holds a null byte (a SyntaxError from Python 3.12 on).
    """
    module = symtable.symtable(source, "<names>", "exec")
    return {name for table in _tables(module) for name in _read_globals(table, module)} - _bound(module)


def bound_names(source: str) -> set[str]:
    """Return the names that a program binds at its top level: by assignment, import, def, class, loop, or `global`.

    Raises:
        SyntaxError: the source does not compile.
        ValueError: it holds a null byte (a SyntaxError from Python 3.12 on).
    """
    return _bound(symtable.symtable(source, "<names>", "exec"))


def _tables(table: symtable.SymbolTable) -> list[symtable.SymbolTable]:
    """Return the table and all below it."""
    tables = [table]
    # The list grows as it is read. No recursion, since generated code may nest deeply.
    for inner in tables:
        tables += inner.get_children()
    return tables


def _read_globals(table: symtable.SymbolTable, module: symtable.SymbolTable) -> list[str]:
    return [
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table is module or symbol.is_global())
    ]


def _bound(module: symtable.SymbolTable) -> set[str]:
    return {
        symbol.get_name()
        for table in _tables(module)
        for symbol in table.get_symbols()
        if (symbol.is_assigned() or symbol.is_imported()) and (table is module or symbol.is_declared_global())
    }
