"""Runs a test program in the form that it has: its statements, then the tests that it only defines.

Used on both sides of the sandbox's border: outside, where the candidate's names are stand-ins, and in the candidate's
own process. Whatever a test raises comes out as it is, the first of them if there are several.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal

__all__ = ["TESTS", "Form", "run_tests"]

Form = Literal["program", "unittest", "pytest", "doctest"]
"""What else runs after the statements: nothing, `unittest.TestCase`s, pytest's functions and classes, or examples."""

TESTS = "<tests>"
"""The file name of a test program's code."""

_PYTEST_OPTIONS = (
    *("-x", "--import-mode=importlib", "--noconftest"),
    *("-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:terminal", "-p", "no:junitxml"),
    *("-p", "no:unraisableexception", "-p", "no:threadexception"),  # they collect garbage again and again: 36 of 55 ms
)


def run_tests(code: types.CodeType, module: types.ModuleType, form: Form, examples: str = "") -> None:
    """Run a test program in a module that holds what it needs.

    Args:
        code: the compiled program, under the file name `TESTS`.
        module: has the candidate's names; it is `__main__` meanwhile.
        form: of the tests that the program defines.
        examples: text with doctest's examples.

    Raises:
        AssertionError: a test failed, or none ran.
        BaseException: whatever else a test raised.
    """
    run_defined = _RUNNERS[form]
    before, name = sys.modules.get("__main__"), module.__name__
    module.__name__ = "__main__"
    module.__dict__.setdefault("__file__", TESTS)
    sys.modules["__main__"] = module
    try:
        try:
            with _without_runners(form):
                exec(code, module.__dict__)
        except SystemExit as error:
            if error.code or not _is_of_tests(error):  # `sys.exit(0)`, say, of a test program that is content
                raise
        run_defined(module, examples)
    finally:
        module.__name__ = name
        if before is not None:
            sys.modules["__main__"] = before


def _is_of_tests(error: BaseException) -> bool:
    """Decide whether the tests themselves raised an exception, and not the candidate that they called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename == TESTS


@contextlib.contextmanager
def _without_runners(form: Form) -> Iterator[None]:
    """Have a program's own call of a runner (`unittest.main()`) do nothing: all that it would run is run after it."""
    if form == "program":
        yield
        return
    libraries = [__import__(name) for name in {form, "unittest"}]  # pytest runs the other's tests too
    names = ("main", "testmod", "testfile", "run_docstring_examples")
    originals = [
        (library, name, getattr(library, name)) for library in libraries for name in names if hasattr(library, name)
    ]
    try:
        for library, name, _ in originals:
            setattr(library, name, lambda *_, **__: 0)
        yield
    finally:
        for library, name, original in originals:
            setattr(library, name, original)


def _run_nothing(module: types.ModuleType, examples: str) -> None:
    """Run nothing: the statements were all."""


def _run_unittest(module: types.ModuleType, examples: str) -> None:
    import unittest

    raised: list[BaseException] = []
    passed: list[Any] = []

    class Result(unittest.TestResult):
        """Keeps the exceptions themselves."""

        failfast = True

        def addSuccess(self, test: Any) -> None:
            passed.append(test)

        def addExpectedFailure(self, test: Any, err: Any) -> None:
            passed.append(test)

        def addError(self, test: Any, err: Any) -> None:
            raised.append(err[1])
            super().addError(test, err)

        def addFailure(self, test: Any, err: Any) -> None:
            raised.append(err[1])
            super().addFailure(test, err)

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                raised.append(err[1])
            else:
                passed.append(subtest)  # where another was skipped, the test as a whole is no success
            super().addSubTest(test, subtest, err)

    result = Result()
    unittest.TestLoader().loadTestsFromModule(module).run(result)
    _raise_first(raised)
    if not result.wasSuccessful():
        raise AssertionError("a test that was expected to fail passed")
    _require_some(len(passed))


def _run_pytest(module: types.ModuleType, examples: str) -> None:
    import asyncio
    import inspect
    import tempfile

    import pytest

    raised: list[BaseException] = []
    passed: list[str] = []

    class Collected(pytest.Module):
        def _getobj(self) -> types.ModuleType:
            return module

    class Plugin:
        def pytest_pycollect_makemodule(self, module_path: Any, parent: Any) -> Any:
            return Collected.from_parent(parent, path=module_path)

        def pytest_pyfunc_call(self, pyfuncitem: Any) -> Any:
            if not inspect.iscoroutinefunction(pyfuncitem.obj):
                return None
            names = pyfuncitem._fixtureinfo.argnames
            asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
            return True

        def pytest_exception_interact(self, call: Any) -> None:
            raised.append(call.excinfo.value)

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" and report.passed:
                passed.append(report.nodeid)

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        # A folder above could have settings, or be closed to us.
        settings, path = os.path.join(folder, "pytest.ini"), os.path.join(folder, "test_answer.py")
        for file in (settings, path):
            open(file, "w").close()
        exit_code = pytest.main([*_PYTEST_OPTIONS, "-c", settings, f"--basetemp={folder}/base", path], [Plugin()])
    _raise_first(raised)
    if exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise AssertionError(f"pytest ended with {exit_code!r}")
    _require_some(len(passed))


def _run_doctest(module: types.ModuleType, examples: str) -> None:
    import doctest

    test = doctest.DocTestParser().get_doctest(examples, module.__dict__, "examples", None, None)
    _require_some(len(test.examples))
    try:
        doctest.DebugRunner(verbose=False).run(test, clear_globs=False)
    except doctest.DocTestFailure as failure:
        raise AssertionError(f"{failure.example.source.strip()} gives {failure.got.strip()}") from None
    except doctest.UnexpectedException as error:
        raise error.exc_info[1] from None


def _raise_first(raised: list[BaseException]) -> None:
    if raised:  # one that is not an Exception, such as the end of the time, comes before all
        raise next((error for error in raised if not isinstance(error, Exception)), raised[0])


def _require_some(number: int) -> None:
    if number <= 0:
        raise AssertionError("no test ran")


_RUNNERS: dict[str, Callable[[types.ModuleType, str], None]] = {
    "program": _run_nothing,
    "unittest": _run_unittest,
    "pytest": _run_pytest,
    "doctest": _run_doctest,
}
