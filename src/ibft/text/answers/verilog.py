"""Find the Verilog that an answer holds. Pure functions; docs/verilog.md lists the same rules with the same numbers.

1. **Clean.** Line ends become `\\n`; other control characters and odd spaces become spaces, so that a comment ends
   here exactly where it ends for the compiler. Reasoning, control tokens and what follows the turn go, as in every
   language (`turn`). So does what follows a repetition of the prompt's own first line: a next task.
2. **Blocks.** With fences (`blocks`), each block is read alone, and the words around them are not. A bare first
   fence closes a block that the prompt had opened, if code stands before it. Without a block, or with only empty
   ones, the whole text is one block.
3. **A body.** Where the first thing in the text is a body, closed by an `endmodule` that closes nothing which the
   text opened, it continues the prompt's module header: header, body and `endmodule`.
4. **A whole module.** Otherwise the design is the last block's own, complete definition of the entry point. Of two
   in one block the first counts (a model that runs on repeats itself), the last where a sentence stands between them.
   Without any, the last block with a body is taken, then a definition that has no end.
5. **Helpers.** Beside the entry point stay only the modules it needs, directly or through others, and declarations
   (directives, packages, types, functions, primitives, interfaces, classes): all of its own block's, of other
   blocks' those whose names are used. Of several definitions the block's own counts, then the last.
6. **A body without its end.** Otherwise text that has at least one statement continues the header, from its first
   statement on. A missing `endmodule` is not added, neither here nor in rule 4: such text was cut short, and does not
   compile. A line with three words in a row that are not keywords is a sentence, whatever it begins with.
7. **Only other modules.** Modules without the entry point are kept as they are: the compiler will say what is missing.
8. **Not code.** Anything else, empty text and comments alone included, is not a design (`None`).

Names, comments and strings are distinguished by `verilog_tokens`, so `endmodule` in a comment ends nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ibft.text.answers.blocks import OTHER_LANGUAGES, split_blocks
from ibft.text.answers.turn import plain_texts
from ibft.text.answers.verilog_modules import Module, declarations, defined_modules
from ibft.text.answers.verilog_tokens import KEYWORDS, clean, tokenize, without_comments

__all__ = ["Design", "Rule", "extract_design", "has_statement", "header_of"]

Rule = Literal["body", "whole_module", "unfinished_body", "other_modules"]


class Design(NamedTuple):
    """The text to compile: `source` is Verilog that begins with `header`, taken from the prompt, where it is a body.

    `rule` says which rule found it.
    """

    source: str
    rule: Rule
    header: str = ""


class _Block(NamedTuple):
    text: str
    modules: list[Module]
    body_end: int | None  # where an `endmodule` ends that closes nothing


# Bounded repeats: the search stays linear on hostile text.
_STATEMENT = re.compile(
    r"""(?mx)^[ \t]*(?P<statement>
        assign\b[^;=]{0,500}=[^;]{0,2000};
      | (?:wire|reg|logic|integer|genvar|localparam|parameter|typedef|function|task|input|output)\b[^;]{0,2000};
      | (?:always(?:_ff|_comb|_latch)?|initial|generate)\s*(?:@|\bbegin\b|\#|\bif\b|\bfor\b|\w+\s*<?=)
      | (?:for|if|casex?|casez)\s*\([^;]{0,500};
      | [A-Za-z_]\w{0,99}\s{1,99}\w{1,99}\s{0,99}\([^;]{0,2000}\)\s{0,99};)"""
)
_MAX_BLOCKS = 40  # a text of thousands is hostile, and only its last ones are read


def extract_design(completion: str, prompt: str, entry_point: str = "top_module") -> Design | None:
    """Return the design that an answer holds, or None where it holds no code.

    Args:
        completion: a model's text: the continuation of `prompt`, or an answer of its own.
        prompt: may end with the header of the module to write; a body is put behind that header.
        entry_point: the name of the module to write.
    """
    first = None
    for text in plain_texts(clean(completion)):
        design = _find(_before_next_task(text, prompt), header_of(prompt, entry_point), entry_point)
        if design is not None and design.rule in ("body", "whole_module"):
            return design
        first = first or design
    return first


def header_of(prompt: str, entry_point: str) -> str:
    """Return the header of the module to write with which a prompt ends, a line break behind it; "" without one."""
    prompt = clean(prompt)
    modules, _ = defined_modules(prompt)
    opened = (module for module in modules if module.name == entry_point and not module.is_closed)
    return next((prompt[module.start :] + "\n" for module in opened), "")


def has_statement(text: str) -> bool:
    """Decide whether text has a statement of Verilog outside of comments; a sentence may begin like one."""
    return _first_statement(text) is not None


def _find(text: str, header: str, entry_point: str) -> Design | None:
    split = split_blocks(text, lambda code: _is_opened_by_prompt(_block(code), entry_point))
    blocks = [_block(block.code) for block in split.blocks if block.language not in OTHER_LANGUAGES][-_MAX_BLOCKS:]
    blocks = blocks or [_block(block.code) for block in split.blocks][-_MAX_BLOCKS:]
    loose = _block(split.loose)
    if header and split.is_continued and _is_body(blocks[-1]):
        return _body(blocks, len(blocks) - 1, header, entry_point)
    if header and _begins_with_body(loose, entry_point):
        return _body([*blocks, loose], len(blocks), header, entry_point)
    for group in (blocks, [loose]):
        chosen = _whole(group, entry_point) or _with_body(group, header) or _whole(group, entry_point, is_closed=False)
        if chosen is None:
            continue
        number, module = chosen
        everything = [*blocks, loose] if group is not blocks else blocks
        number += len(everything) - len(group)
        if module is None:
            return _body(everything, number, header, entry_point)
        return Design(_assemble(everything, number, module, "", 0, entry_point), "whole_module")
    for group in (blocks, [loose]):
        if any(block.modules for block in group):
            return Design(
                "".join(block.text[block.modules[0].start :] for block in group if block.modules), "other_modules"
            )
    for block in [*reversed(blocks), loose]:
        if header and (start := _first_statement(block.text)) is not None:
            return Design(f"{header}{_from_first_line(block.text, start)}\n", "unfinished_body", header)
    return None


def _block(text: str) -> _Block:
    return _Block(text, *defined_modules(text))


def _whole(blocks: Sequence[_Block], entry_point: str, *, is_closed: bool = True) -> tuple[int, Module] | None:
    """Return the last block with a definition of the entry point, and the definition that counts in it (rule 4)."""
    for number in reversed(range(len(blocks))):
        block = blocks[number]
        tries = [module for module in block.modules if module.name == entry_point and module.is_closed == is_closed]
        if tries:
            # A model that runs on repeats itself; one that corrects itself says so in between.
            later = [b for a, b in itertools.pairwise(tries) if _has_sentence(block.text[a.end : b.start])]
            return number, (later or tries[:1])[-1]
    return None


def _with_body(blocks: Sequence[_Block], header: str) -> tuple[int, None] | None:
    numbers = [number for number, block in enumerate(blocks) if header and _is_body(block)]
    return (numbers[-1], None) if numbers else None


def _is_body(block: _Block) -> bool:
    """Decide whether what `endmodule` closes is code, and not a sentence that mentions the word (rule 3)."""
    if block.body_end is None:
        return False
    body = block.text[: block.body_end - len("endmodule")]
    return _first_statement(body) is not None or next(tokenize(body), None) is None


def _begins_with_body(block: _Block, entry_point: str) -> bool:
    """Decide whether a text continues the header from its first line on, whatever comes after."""
    whole = next((module for module in block.modules if module.name == entry_point), None)
    if block.body_end is None or (whole is not None and whole.start < block.body_end) or not _is_body(block):
        return False
    first, statement = next(tokenize(block.text), None), _first_statement(block.text)
    return first is None or statement is None or first.start >= statement or first.value == "endmodule"


def _is_opened_by_prompt(block: _Block, entry_point: str) -> bool:
    return _whole([block], entry_point) is not None or _is_body(block) or _first_statement(block.text) is not None


def _first_statement(text: str) -> int | None:
    """Return where the first statement begins that is not a sentence."""
    bare = without_comments(text)
    bare = bare[: bare.rfind(";") + 1]
    matches = (match for match in _STATEMENT.finditer(bare) if not _has_sentence(match.group()))
    return next((match.start("statement") for match in matches), None)


def _has_sentence(text: str) -> bool:
    """Decide whether three names stand in a row that are not keywords, as no Verilog has them."""
    run = 0
    end = 0
    for token in tokenize(text):
        is_word = token.kind == "name" and token.value not in KEYWORDS
        run = run + 1 if is_word and (run == 0 or text[end : token.start].isspace()) else int(is_word)
        end = token.end
        if run == 3:
            return True
    return False


def _from_first_line(text: str, statement: int) -> str:
    """Return a body from its first line of code on: words before its first statement go, other lines stay."""
    before = text[:statement]
    lines = without_comments(before).split("\n")
    prose = [n for n, line in enumerate(lines) if _has_sentence(line) or re.search(r"[A-Za-z][:.!]\s*$", line)]
    return "".join(before.splitlines(keepends=True)[prose[-1] + 1 :]) + text[statement:] if prose else text


def _before_next_task(text: str, prompt: str) -> str:
    first = prompt.strip().partition("\n")[0].strip()
    # Prompts of VerilogEval 2 begin with `Question:`; a model that runs on begins with it again.
    if not re.fullmatch(r"[A-Z]\w*:", first):
        return text
    again = re.search(rf"(?m)^{re.escape(first)}[ \t]*$", text)
    return text[: again.start()] if again and text[: again.start()].strip() else text


def _body(blocks: Sequence[_Block], number: int, header: str, entry_point: str) -> Design:
    block = blocks[number]
    assert block.body_end is not None
    statement = _first_statement(block.text[: block.body_end])
    body = block.text[: block.body_end]
    if statement is not None:
        body = _from_first_line(body, statement)
    source = _assemble(blocks, number, None, f"{header}{body}\n", block.body_end, entry_point)
    return Design(source, "body", header)


def _assemble(
    blocks: Sequence[_Block], number: int, design: Module | None, entry: str, start: int, entry_point: str
) -> str:
    """Return the design and what rule 5 keeps beside it, in the order of the text.

    Args:
        blocks: all of the answer's.
        number: the block with the design.
        design: the design, where it is a module of that block.
        entry: the design's text, where it is put together from a header and a body.
        start: where the design begins in its block, or where a body ends.
        entry_point: the design's name.
    """
    known: dict[str, tuple[int, Module]] = {}
    # Of several definitions the block's own counts, then the last.
    for place in [number, *(other for other in reversed(range(len(blocks))) if other != number)]:
        for module in blocks[place].modules:
            known.setdefault(module.name, (place, module))
    known.pop(entry_point, None)
    used = set(design.names) if design is not None else {token.value.lstrip("`") for token in tokenize(entry)}
    kept = {(number, design.start)} if design is not None else set()
    waiting = list(used)
    while waiting:
        if (helper := known.pop(waiting.pop(), None)) is not None:
            place, module = helper
            kept.add((place, module.start))
            used |= module.names
            waiting += module.names
    source = blocks[number].text[design.start : design.end] if design is not None else entry
    declared = {declaration.name for text in (source, blocks[number].text) for declaration in declarations(text)}
    pieces = []
    for place, block in enumerate(blocks):
        position = 0
        if place == number and design is None:
            pieces.append(entry)
            position = start
        end_of_text = Module("", len(block.text), len(block.text), True, frozenset())
        for module in [*(module for module in block.modules if module.start >= position), end_of_text]:
            between = declarations(block.text[position : module.start])
            pieces += [part.text for part in between if place == number or (part.name in used - declared)]
            if (place, module.start) in kept:
                pieces.append(block.text[module.start : module.end] + "\n")
            position = module.end
    return "".join(pieces)
