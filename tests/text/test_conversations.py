"""Conversations on tokenizers that people use: the template's own text, and TRL's and transformers' own masks."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.shapes import to_pair
from ibft.data.tokens import TokenizedExample
from ibft.errors import PromptError, RowError
from ibft.text import turns as text_turns
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_pair

trl = pytest.importorskip("trl")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
FAMILIES = ("smollm2", "llama3", "qwen3", "deepseek_v3", "gemma3")
NUM_CONVERSATIONS = 500
WITH_PARTS = ("idefics3", "llava_next", "smolvlm")

WORDS = [
    "def f(x):\n    return x",
    "naïve café",
    "数据",
    "🙂 ok",
    "a\tb",
    "x" * 300,
    "<b>bold</b>",
    "1 + 1 = 2",
    "---",
]
TOOL = {
    "type": "function",
    "function": {"name": "run", "description": "Run tests.", "parameters": {"type": "object", "properties": {}}},
}

Load = Callable[[str], Any]


def conversations(count: int, *, has_tools: bool = False) -> Iterator[dict[str, Any]]:
    """Rows with turns of many lengths: with and without a system text, with calls of tools and their results."""
    generator = random.Random(0)

    def text() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, 6)))

    for number in range(count):
        turns = [{"role": "system", "content": text()}] if number % 3 == 0 else []
        for _ in range(generator.randint(1, 4)):
            turns.append({"role": "user", "content": text()})
            if has_tools and generator.random() < 0.4:
                call = {"type": "function", "function": {"name": "run", "arguments": {"path": text()}}}
                turns += [
                    {"role": "assistant", "content": "", "tool_calls": [call]},
                    {"role": "tool", "content": text()},
                ]
            turns.append({"role": "assistant", "content": text()})
        yield {"messages": turns, **({"tools": [TOOL]} if has_tools else {})}


def encoded(codec: TextCodec, row: dict[str, Any]) -> tuple[str, list[int], list[int]]:
    """The text, the tokens, and 1 for those that are trained."""
    example = encode_pair(codec, to_pair(row, "row"))
    labels = TokenizedExample("row", example.input_ids, example.trained).labels
    return example.text, example.input_ids, [int(label != -100) for label in labels]


def rendered(tokenizer: Any, row: dict[str, Any]) -> str:
    return str(tokenizer.apply_chat_template(copy.deepcopy(row["messages"]), tools=row.get("tools"), tokenize=False))


def with_parts(row: dict[str, Any]) -> dict[str, Any]:
    """The row as templates of vision models need it."""
    turns = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in row["messages"]]
    return row | {"messages": turns}


def spans(text: str, mask: list[int], offsets: list[tuple[int, int]]) -> list[str]:
    """The texts of the runs of trained tokens."""
    found, start = [], None
    for place, is_trained in enumerate([*mask, 0]):
        if is_trained and start is None:
            start = place
        elif not is_trained and start is not None:
            found.append(text[offsets[start][0] : offsets[place - 1][1]])
            start = None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_text_tokens_and_answers_are_those_of_the_models_own_template(family: str, real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer(family)
    codec = TextCodec(tokenizer, "chat")
    end = codec.chat.end_of_turn.strip()  # type: ignore[union-attr]
    for row in conversations(NUM_CONVERSATIONS):
        answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
        text, input_ids, mask = encoded(codec, row)
        assert text == rendered(tokenizer, row)
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert input_ids == whole["input_ids"]
        trained = spans(text, mask, whole["offset_mapping"])
        if family == "qwen3":  # an empty thought before the last answer
            trained[-1] = trained[-1].removeprefix("<think>\n\n</think>\n\n")
        assert [one.strip() for one in trained] == [f"{answer.strip()}{end}" for answer in answers]


def marked_templates() -> list[str]:
    return sorted(path.stem.removesuffix("_training") for path in TEMPLATES.glob("*_training.jinja"))


@pytest.mark.slow
@pytest.mark.parametrize("name", marked_templates())
def test_with_marks_the_trained_tokens_are_those_of_transformers(name: str, real_tokenizer: Load) -> None:
    """Every template of TRL that marks the assistant's text, on Qwen3's tokens."""
    tokenizer = copy.deepcopy(real_tokenizer("qwen3"))
    tokenizer.chat_template = (TEMPLATES / f"{name}_training.jinja").read_text()
    controls = set(re.findall(r"<[|｜a-z/][^<>{}\s'\"]*>|\[/?[A-Z_]+\]", tokenizer.chat_template))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(controls)})
    codec = TextCodec(tokenizer, "chat")
    num_compared = 0
    for row in [*conversations(40), *conversations(40, has_tools=True)]:
        given = copy.deepcopy(with_parts(row) if name in WITH_PARTS else row)
        try:
            theirs = tokenizer.apply_chat_template(
                given["messages"], tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True
            )
            text, input_ids, mask = encoded(codec, row)
        except PromptError:  # of a template that reads no tools: the next test is about them
            continue
        except Exception:  # of the template itself
            with pytest.raises((PromptError, RowError)):
                encoded(codec, row)
            continue
        assert text == tokenizer.apply_chat_template(given["messages"], tools=row.get("tools"), tokenize=False)
        assert (input_ids, mask) == (theirs["input_ids"], theirs["assistant_masks"])
        num_compared += 1
    assert num_compared >= 10


def test_a_thought_and_a_call_are_trained_and_a_result_is_not(real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer("qwen3")
    codec = TextCodec(tokenizer, "chat")
    call = {"type": "function", "function": {"name": "run", "arguments": {"path": "t.py"}}}
    row = {
        "messages": [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": "", "reasoning_content": "First the tests.", "tool_calls": [call]},
            {"role": "tool", "content": "1 failed"},
            {"role": "assistant", "content": "def f(): pass", "reasoning_content": "Now the code."},
        ],
        "tools": [TOOL],
    }
    text, _, mask = encoded(codec, row)
    assert text == rendered(tokenizer, row)
    trained = spans(
        text, mask, tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    )
    assert trained == [
        "<think>\nFirst the tests.\n</think>\n\n<tool_call>\n"
        '{"name": "run", "arguments": {"path": "t.py"}}\n</tool_call><|im_end|>',
        "<think>\nNow the code.\n</think>\n\ndef f(): pass<|im_end|>",
    ]


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "gemma4", "lfm2_2_5", "qwen3_instruct_2507"])
@pytest.mark.parametrize("is_changed", [False, True], ids=["marks of TRL", "a copy of its own"])
@pytest.mark.parametrize("has_answer", [True, False])
def test_calls_are_trained_and_their_results_are_not(
    name: str, is_changed: bool, has_answer: bool, real_tokenizer: Load
) -> None:
    tokenizer = copy.deepcopy(real_tokenizer("qwen3"))
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text() + ("{# ours #}" if is_changed else "")
    controls = set(re.findall(r"<[|a-z/][^<>{}\s'\"]*>", tokenizer.chat_template))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(controls)})
    codec = TextCodec(tokenizer, "chat")
    call = {"type": "function", "function": {"name": "run", "arguments": {"path": "CALLED"}}}
    turns = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "run", "content": "RESULT of the tool"},
        {"role": "assistant", "content": "DONE"},
    ]
    row = {"messages": turns if has_answer else turns[:2], "tools": [TOOL]}
    text, input_ids, mask = encoded(codec, row)
    assert text == rendered(tokenizer, row)
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert input_ids == whole["input_ids"]  # with one end, which is the template's
    trained = "".join(spans(text, mask, whole["offset_mapping"]))
    assert "CALLED" in trained
    assert "RESULT" not in trained
    assert ("DONE" in trained) == has_answer


@pytest.mark.parametrize("family", ["qwen3", "deepseek_v3"])
def test_a_turn_that_the_template_leaves_out_is_refused(family: str, real_tokenizer: Load) -> None:
    codec = TextCodec(real_tokenizer(family), "chat")
    turns = (Message("developer", "BE BRIEF"), Message("user", "p"), Message("assistant", "c"))
    with pytest.raises(PromptError, match="leaves out what the developer says in the example row 3"):
        encode_pair(codec, Conversation("row 3", turns))


def test_words_beside_a_call_are_not_lost(real_tokenizer: Load) -> None:
    call = {"type": "function", "function": {"name": "run", "arguments": "{}"}}
    turns = (Message("user", "p"), Message("assistant", "Let me look.", {"tool_calls": [call]}))
    with pytest.raises(PromptError, match="does not read the field tool_calls of the example row 3"):
        encode_pair(TextCodec(real_tokenizer("deepseek_v3"), "chat"), Conversation("row 3", turns))


@pytest.mark.parametrize("family", ["qwen3", "llama3", "gemma3"])
def test_answers_are_found_at_once_where_they_are_found_one_by_one(
    family: str, real_tokenizer: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = TextCodec(real_tokenizer(family), "chat")
    rows = [*conversations(60), *(conversations(60, has_tools=True) if family == "qwen3" else [])]
    pairs = [to_pair(row, "row") for row in rows]
    num_aligned = sum(
        text_turns._aligned(codec.chat, pair, encode_pair(codec, pair).text) is not None for pair in pairs
    )  # type: ignore[arg-type]
    assert num_aligned > len(pairs) / 2
    at_once = [encode_pair(codec, pair) for pair in pairs]
    monkeypatch.setattr(text_turns, "_aligned", lambda *_: None)
    assert [encode_pair(codec, pair) for pair in pairs] == at_once


def test_a_turn_of_weight_0_is_context(real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer("smollm2")
    codec = TextCodec(tokenizer, "chat")
    turns = [("user", "a"), ("assistant", "BAD"), ("user", "b"), ("assistant", "good"), ("user", "thanks")]
    rows = [{"role": role, "content": content} for role, content in turns]
    rows[1]["weight"] = 0  # type: ignore[assignment]
    text, _, mask = encoded(codec, {"messages": rows})
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert spans(text, mask, offsets) == ["good<|im_end|>"]
    assert "BAD<|im_end|>" in text
    assert text.endswith("thanks<|im_end|>\n")


@pytest.mark.parametrize(
    ("family", "turn", "field"),
    [
        ("smollm2", {"reasoning_content": "so"}, "reasoning_content"),
        ("smollm2", {"tool_calls": [{"function": {"name": "run", "arguments": {}}}]}, "tool_calls"),
        ("qwen3", {"thoughts": "so"}, "thoughts"),
        ("llama3", {"refusal": "no"}, "refusal"),
    ],
)
def test_content_that_the_template_does_not_read_is_refused(
    family: str, turn: dict[str, Any], field: str, real_tokenizer: Load
) -> None:
    codec = TextCodec(real_tokenizer(family), "chat")
    turns = (Message("user", "p"), Message("assistant", "c", turn))
    with pytest.raises(PromptError, match=f"does not read the field {field} of the example row 3"):
        encode_pair(codec, Conversation("row 3", turns))
    named = (Message("user", "p", {"name": "Ann", "id": "7"}), Message("assistant", "c", {"date": "2026"}))
    assert encode_pair(codec, Conversation("row 3", named)).trained


def test_tools_that_the_template_does_not_read_are_refused(real_tokenizer: Load) -> None:
    turns = (Message("user", "p"), Message("assistant", "c"))
    with pytest.raises(PromptError, match="does not read the field tools of the example row 3"):
        encode_pair(TextCodec(real_tokenizer("llama3"), "chat"), Conversation("row 3", turns, (TOOL,)))


@pytest.mark.parametrize("template", ["plain", "instruction"])
def test_without_a_chat_template_there_is_one_question_and_one_answer(template: str, real_tokenizer: Load) -> None:
    codec = TextCodec(real_tokenizer("smollm2"), template)
    user, answer = Message("user", "Write f.\n"), Message("assistant", "def f(): pass")
    as_pair = encode_pair(codec, Pair("c", "Write f.\n", "def f(): pass"))
    assert encode_pair(codec, Conversation("c", (user, answer))) == as_pair
    with_call = Message("assistant", "c", {"tool_calls": [1]})
    for turns, tools, expected in (
        ((user, answer, user, answer), (), "has 4 turns"),
        ((Message("system", "s"), user, answer), (), "has 3 turns"),
        ((user, answer), (TOOL,), "has tools"),
        ((user, with_call), (), "has the field tool_calls"),
        ((Message("user", "p", {"thoughts": "t"}), answer), (), "has the field thoughts"),
    ):
        with pytest.raises(PromptError, match=expected):
            encode_pair(codec, Conversation("row 3", turns, tools))


def test_text_is_trained_whole_in_any_template(real_tokenizer: Load) -> None:
    for family in ("smollm2", "gemma3", "llama2"):
        tokenizer = real_tokenizer(family)
        for template in ("plain", "chat") if tokenizer.chat_template else ("plain",):
            example = encode_pair(TextCodec(tokenizer, template), Pair("t", None, "def f():\n    pass\n"))
            whole = tokenizer("def f():\n    pass\n")["input_ids"]
            assert example.input_ids == [*whole, tokenizer.eos_token_id]
            num_start = int(whole[0] == tokenizer.bos_token_id)
            assert example.trained == ((num_start, len(whole) + 1),)
            assert example.response == slice(1, len(whole))


def test_null_is_not_the_word_none(real_tokenizer: Load) -> None:
    """Of a template that prints it."""
    call = {"type": "function", "function": {"name": "run", "arguments": "{}"}}
    turns = (Message("user", "None?"), Message("assistant", None, {"tool_calls": [call]}))
    tokenizer = copy.deepcopy(real_tokenizer("smollm2"))
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    example = encode_pair(TextCodec(tokenizer, "chat"), Conversation("c", turns))
    assert 'assistant\n[{"type"' in example.text
    assert "None?" in example.text


def test_a_row_of_200_000_tokens_is_rendered_like_any_other(real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer("llama3")
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "one two\n" * 70_000}]
    text, input_ids, mask = encoded(TextCodec(tokenizer, "chat"), {"messages": turns * 2})
    assert len(input_ids) > 200_000
    assert text == rendered(tokenizer, {"messages": turns * 2})
    assert sum(mask) > 200_000
