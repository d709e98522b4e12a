"""From a model's raw text to its answer: the one place for it, for `ibft generate` and `ibft judge` alike. Pure.

Where a rule leaves a choice, it is made by what compiles. docs/answers.md has the same rules, with examples.

**The answer's own text** (`turn`, every language)

1. *Reasoning goes*: what stands between `<think>` (`<thinking>`, `<reasoning>`, `[THINK]`, ...) and its end, up to the
   end of the text where nothing ends it, from the start where the prompt had opened it; every channel but the final.
2. *Control tokens go* at the start and the end, and so does the assistant's header. One in between ends the answer.
3. Tokens and tags inside quotation marks are text. Where the text before a control token is not a program, the token
   counts as text as well.

**Python in a chat** (`blocks`, `loose`, `python`)

4. *Blocks* are what fences of every shape mark off, `<code>` and `[PYTHON]` tags, transcripts of an interpreter. A
   fence inside a docstring closes nothing, if the code parses so. A bare first fence closes a block that the prompt
   had opened.
5. *Without a block* that has the program, the statements at the left margin are it, without the prose among them.
   Indented code counts where no statement stands above it. An unfinished last statement is left out.
6. *The program* is the last block that compiles and defines the entry point, by more than a stub. Blocks in other
   languages and transcripts count only where no other block does. Without an entry point the names count that the
   tests use.
7. *Helpers*: names that the program uses and another block defines bring their statements, from the nearest block
   before.
8. *Around it*: the imports and helpers of the prompt are put in front, unless the program has all of them. Statements
   that only show or test (`print(...)`, `assert`, `if __name__ == "__main__"`) go.
9. *No program*: a body continues the prompt, indented as it has to be; a method goes into the prompt's class. Code that
   does not compile stays as it is. Words alone are an empty answer.

**Python that continues the prompt** (`completion`)

10. *Inside a function*, where the prompt leaves one open (as HumanEval's do), the answer ends before the first line
    that starts at column 0 with something other than a closing bracket: such a line is no longer the function. Lines
    inside a triple-quoted string count as text.
11. *A whole program* ends before the first line that starts with a code fence, `if __name__`, `print(` or `assert `.
12. *A new start*: text that begins with words, a fence, or the function or prompt once more is read as in a chat, if
    that gives a program.

**Python that reads standard input** (`programs`)

13. *A program by what it does*: the last block that prints when it runs, rather one that also reads, and rather one
    that needs nothing from elsewhere. Nothing is taken off it.

The recipe's `generate.stop` strings end the answer in every case. `reader` has the table of the languages and
what holds for all of them, `verilog` the rules for Verilog.
A sample that is judged (`extract_sample`) is left as it is where it compiles within its problem, where no whole program
is found in it, and where it is code that does not compile with nothing to show that it came from a chat.
"""

from ibft.text.answers.answer import extract, extract_sample, has_ended, is_open
from ibft.text.answers.reader import Answer, Form, Reader
from ibft.text.answers.turn import is_chat

__all__ = ["Answer", "Form", "Reader", "extract", "extract_sample", "has_ended", "is_chat", "is_open"]
