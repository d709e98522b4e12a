"""From a model's raw text to its answer."""

from ibft.text.answers.answer import Answer, Form, extract, extract_sample, has_ended
from ibft.text.answers.turn import is_chat

__all__ = ["Answer", "Form", "extract", "extract_sample", "has_ended", "is_chat"]
