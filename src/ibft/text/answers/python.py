"""Find the Python program that an answer holds. Rules 4 to 9 of the package's docstring."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ibft.text.answers.blocks import OTHER_LANGUAGES, Block, split_blocks
from ibft.text.answers.completion import cut
from ibft.text.answers.loose import find_code, indented_blocks, looks_like_code
from ibft.text.answers.prompt import Asked, without_decorators
from ibft.text.answers.syntax import (
    Statement,
    compiles,
    defines,
    in_front,
    names_in,
    num_statements,
    parse,
    statements,
    without_examples,
)

__all__ = ["Program", "cleaned", "continues", "find_program", "fragment", "in_order", "readable", "with_helpers"]

_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#39);")
_TRANSCRIPT = re.compile(r"\s*(?:>>> |In \[\d+\]: )")
_LINE_NUMBER = re.compile(r"(?m)^[ \t]*\d{1,4}(?:[:.|]?[ \t]|[:.|]?$)")
_LABEL = re.compile(r"\A\s*(?:python3?|py)[ \t]*\n", re.IGNORECASE)
# An answer has a few blocks; a text of thousands is hostile, and only its last ones are read.
_MAX_READ = 40


class Program(NamedTuple):
    """The content of an answer: a `completion` of the prompt or a `solution`, a program of its own; the other is None.

    `is_whole` says that it compiles and defines what the problem asks for.
    """

    completion: str | None
    solution: str | None
    is_whole: bool


def find_program(text: str, asked: Asked, *, is_strict: bool = False) -> Program:
    """Find the program in the text of an answer.

    Args:
        text: what `turn.plain_texts` gives.
        asked: what it has to be.
        is_strict: leave code that breaks off unfinished alone, unless there is prose or a fence: it is not an answer
            in a chat, but a program that does not compile.
    """
    text = cleaned(text)
    # First as it stands: what is clean goes through to the byte.
    if defines(text, asked.names):
        return _solution(text, asked)
    split = split_blocks(text, lambda code: _is_answer(code, asked), _parses)
    blocks = in_order(split.blocks[-_MAX_READ:])
    codes = [code for block in blocks for code in [readable(block, asked)] if code is not None]
    is_strict = is_strict and not split.blocks and not find_code(split.loose).num_prose
    # From the last one, since a later block corrects an earlier one. Of several names one has to be in it: blocks may
    # define one each.
    for code in reversed(codes):
        if any(defines(code, frozenset({name})) for name in asked.names):
            program = with_helpers(code, [other for other in codes if other is not code], asked)
            if defines(program, asked.names):
                return _solution(program, asked)
    for code in _loose_programs(split.loose, asked) if not is_strict else ():
        return _solution(with_helpers(code, codes, asked), asked)
    unmarked = [] if is_strict else [find_code(split.loose).code, *_indented(split.loose)]
    for code in [*reversed([block.code for block in blocks]), *unmarked]:
        if (method := _as_method(code, asked)) is not None:
            return Program(None, method, True)
        if (body := _as_body(code, asked)) is not None:
            return Program(body, None, True)
    return Program(None, fragment(blocks, split.loose, asked), False)


def cleaned(text: str) -> str:
    """Return a text with Unix line ends, without a byte order mark and a first line that names the language."""
    return _LABEL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff"))


def continues(body: str, asked: Asked) -> bool:
    """Decide whether text continues the prompt to a program that compiles and has more in it than the prompt has."""
    if not body.strip() or not compiles(asked.prompt + body):
        return False
    # More than the prompt: with a docstring it compiles alone, and any comment would continue it.
    return parse(asked.prompt) is None or num_statements(asked.prompt + body) > num_statements(asked.prompt)


def _is_answer(code: str, asked: Asked) -> bool:
    is_body = not code[:1].strip() and continues(cut(code, asked.prompt), asked)
    return is_body or defines(code, asked.names)


def _parses(code: str) -> bool:
    return parse(textwrap.dedent(code)) is not None


def in_order(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks as they come, those in other languages and transcripts first."""
    # The last block that fits is taken, so these count only where no other block does.
    return sorted(blocks, key=lambda block: block.language not in OTHER_LANGUAGES and not _TRANSCRIPT.match(block.code))


def readable(block: Block, asked: Asked) -> str | None:
    """Return the block's code in the first form that parses; None where none does."""
    code = block.code
    if _TRANSCRIPT.match(code):
        return _without_prompts(code)
    for form in _forms(code):
        if parse(form) is not None:
            return form
    # Words in a block: behind one that was never closed, or around the program (a sentence, a notebook's `!pip`).
    if not block.is_closed or any(name in code for name in asked.names):
        rest = find_code(textwrap.dedent(code))
        if rest.code.strip() and not rest.is_broken and not (rest.is_cut and block.is_closed):
            return rest.code
    return None


def _forms(code: str) -> Iterator[str]:
    # What happens to code on its way: it is indented, escaped for HTML, numbered, or gets non-breaking spaces.
    yield code
    yield textwrap.dedent(code)
    if _ENTITY.search(code):
        yield html.unescape(code)
    if all(_LINE_NUMBER.match(line) for line in code.split("\n") if line.strip()):
        yield _LINE_NUMBER.sub("", code)
    if "\xa0" in code:
        yield textwrap.dedent(code.replace("\xa0", " "))


def _without_prompts(code: str) -> str | None:
    """Return the input of an interpreter's transcript."""
    prompts = re.finditer(r"(?m)^[ \t]*(?:>>>|\.\.\.:?|In \[\d+\]:)(?: ([^\n]*))?$", code)
    source = "\n".join(line[1] or "" for line in prompts) + "\n"
    return source if parse(source) is not None else None


def _solution(code: str, asked: Asked) -> Program:
    code = without_examples(code, asked.names)
    return Program(None, _with_preamble(code, asked), True)


def _with_preamble(code: str, asked: Asked) -> str:
    """Put the prompt's imports and helpers in front, unless the program has all of them itself."""
    needed, _ = names_in(asked.preamble)
    bound, _ = names_in(code)
    # Nobody knows which names a star imports, so such a preamble is always put in front.
    if (needed <= bound and "import *" not in asked.preamble) or code.startswith(asked.preamble):
        return code
    return in_front(asked.preamble, code)


def with_helpers(code: str, others: Sequence[str], asked: Asked) -> str:
    """Put in front what other blocks define and the program needs, statement by statement, the nearest definition."""
    bound, needed = names_in(code)
    known = bound | names_in(asked.preamble)[0]
    parts = (part for other in others for part in statements(other, asked.names))
    pool = [part for part in parts if not part.is_example]
    chosen: set[int] = set()
    waiting = list((needed | asked.names) - bound)
    while waiting:
        name = waiting.pop()
        number = next((n for n in reversed(range(len(pool))) if name in pool[n].binds), None)
        if number is not None and number not in chosen:
            chosen.add(number)
            waiting += pool[number].uses - bound
    chosen |= set(_builders(pool, chosen, known))
    if not chosen:
        return code
    helpers = "".join(pool[number].text for number in sorted(chosen))
    together = f"{helpers.strip()}\n\n\n{code}"
    future = [line for line in together.split("\n") if line.startswith("from __future__ import")]
    if future:
        rest = [line for line in together.split("\n") if line not in future]
        together = "\n".join([*dict.fromkeys(future), *rest])
    # Put together, the parts may not compile: then the code stays without them.
    is_program = defines(together, asked.names) if asked.names else compiles(together)
    return together if is_program else code


def _builders(pool: Sequence[Statement], chosen: Iterable[int], known: frozenset[str]) -> Iterator[int]:
    """Yield the statements that fill a value that was chosen, such as a table, and need nothing that was not."""
    values = {name for number in chosen if not pool[number].is_definition for name in pool[number].binds}
    names = known | {name for number in chosen for name in pool[number].binds}
    for number, part in enumerate(pool):
        if part.is_definition or part.binds & values:
            continue
        if part.uses & values and part.uses - part.binds <= names:
            yield number


def _loose_programs(text: str, asked: Asked) -> Iterator[str]:
    """Yield programs that no fence marks off: at the left margin, or indented as Markdown's code blocks are."""
    if not any(name in text for name in asked.names):
        return
    for candidate in (text, *indented_blocks(text, asked.names)):
        rest = find_code(candidate)
        if not rest.is_broken and defines(rest.code, asked.names):
            yield rest.code


def _indented(text: str) -> list[str]:
    """Return the runs of indented lines in a text that belong to no statement, the last first."""
    runs: list[list[str]] = [[]]
    is_owned = False
    for line in text.split("\n"):
        if line[:1].strip():
            is_owned = looks_like_code(line)
            runs.append([])
        elif not is_owned:
            runs[-1].append(line)
    return ["\n".join(run) + "\n" for run in reversed(runs) if any(map(str.strip, run))][:_MAX_READ]


def _as_body(code: str, asked: Asked) -> str | None:
    """Return the code as what continues the prompt's open function, at the indentation that it needs."""
    if not asked.is_open:
        return None
    code = code.strip("\n")
    margin = _margin(asked.prompt)
    dedented = textwrap.dedent(code)
    forms = [code] if code[:1].isspace() else []
    if re.search(r"(?m)^(?:return|yield)\b", dedented) or (code[:1].isspace() and "return" in code):
        forms.append(textwrap.indent(dedented, margin))
    for form in forms:
        body = cut(form + "\n", asked.prompt)
        if body.strip() and continues(body, asked):
            return body
    return None


def _margin(prompt: str) -> str:
    """Return the indentation of the body that the prompt leaves open."""
    definitions = re.findall(r"(?m)^([ \t]*)(?:async[ \t]+def|def|class)\b", prompt)
    last = prompt.rstrip().rpartition("\n")[2]
    inner = str(last[: len(last) - len(last.lstrip())])
    outer = str(definitions[-1]) if definitions else ""
    return inner if len(inner) > len(outer) and not last.rstrip().endswith(":") else outer + "    "


def _as_method(code: str, asked: Asked) -> str | None:
    """Return the method alone, put where the prompt's class has it."""
    if not asked.method:
        return None
    names = frozenset({asked.method})
    dedented = textwrap.dedent(code)
    if not defines(dedented, names):
        return None
    place = re.search(rf"(?m)^([ \t]+)(?:async[ \t]+)?def[ \t]+{re.escape(asked.method)}\b", asked.prompt)
    if place is None:
        return None
    before = asked.prompt[: place.start()]
    if dedented.lstrip().startswith("@"):  # the answer repeats the prompt's decorators, or has others
        before = without_decorators(before, place[1])
    solution = before + textwrap.indent(without_examples(dedented, names), place[1])
    return solution if defines(solution, asked.names) else None


def fragment(blocks: Sequence[Block], loose: str, asked: Asked) -> str:
    """Return what stands for an answer without a program: code that does not compile, "" where there is only prose."""
    codes = [block.code for block in blocks if block.language not in OTHER_LANGUAGES]
    definition = re.compile(rf"(?m)^[ \t]*(?:async +def|def|class) +(?:{'|'.join(map(re.escape, asked.names))})\b")
    named = [code for code in [loose, *codes] if asked.names and definition.search(code)]
    if named or codes:
        return (named or codes)[-1]
    return loose if definition.search(loose) or find_code(loose).code.strip() else ""
