"""Reading answers in Verilog: a body behind the prompt's header, or a whole design."""

from __future__ import annotations

from ibft.artifacts.rows import Problem, Sample
from ibft.text.answers.blocks import VERILOG
from ibft.text.answers.reader import Answer, Form, Reader
from ibft.text.answers.verilog import extract_design
from ibft.text.answers.verilog_tokens import tokenize

__all__ = ["VERILOG_READER", "VerilogReader"]


class VerilogReader(Reader):
    """The rules of `ibft.text.answers.verilog`, the same for a chat and a completion."""

    fences = VERILOG

    def extract(self, text: str, problem: Problem, form: Form) -> Answer:
        """Return a body as a completion, a whole design as a solution; as it was written where nothing had to go."""
        design = extract_design(text, problem.prompt, problem.entry_point or "top_module")
        if design is None:
            return Answer(solution="")
        code = design.source.removeprefix(design.header)
        is_same = [token.value for token in tokenize(code)] == [token.value for token in tokenize(text)]
        code = text if is_same else code
        return Answer(completion=code) if design.header else Answer(solution=code)

    def extract_sample(self, sample: Sample, problem: Problem) -> Answer | None:
        """Return the design in a sample's text; None where there is none, or it is read as it is."""
        answer = self.extract(sample.text, problem, "chat")
        is_read_as_it_is = answer.text == sample.text and (sample.completion is not None or answer.solution is not None)
        return answer if answer.text and not is_read_as_it_is else None


VERILOG_READER = VerilogReader()
