"""What is trained on: our tokens and mask are those that TRL makes of the same data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.chat_template_utils as trl_templates
from datasets import Dataset, IterableDataset
from trl import SFTConfig, SFTTrainer

from ibft import IBConfig, IBTrainer
from ibft.artifacts.rows import Conversation, Message
from ibft.data.tokens import TokenizedExample
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_answer, encode_pair

from ..conftest import tiny_model

PAIRS = [
    {"prompt": "def scale(total):\n", "completion": "    return total * 2\n"},
    {"prompt": "def name():", "completion": ' return "é"\n'},
    {"prompt": "class Stack:\n    def push(self, x): ", "completion": "self.items.append(x)"},
]
CHATS = [
    [("user", "Write a function that doubles x."), ("assistant", "def double(x):\n    return 2 * x\n")],
    [("user", "Hi"), ("assistant", "Hello."), ("user", "Add."), ("assistant", "```python\nprint(1 + 2)\n```")],
]
CHATML_WITH_MARKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Any]:
    """`make_trainer(tokenizer, rows)`: a trainer of a tiny model with this tokenizer, by default an IBTrainer."""

    def make(tokenizer: Any, rows: Any, kind: Any = IBTrainer, alpha: float = 0.1, **more: Any) -> Any:
        heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
        model = tiny_model(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, **heads)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        settings = {"output_dir": str(tmp_path / "out"), "use_cpu": True, "bf16": False, "report_to": "none"} | more
        own = {"alpha": alpha, "layer": 1, "bottleneck_dim": 4}
        arguments = SFTConfig(**settings) if kind is SFTTrainer else IBConfig(**settings, **own)
        data = Dataset.from_list(rows) if isinstance(rows, list) else rows
        return kind(model, arguments, train_dataset=data, processing_class=tokenizer)

    return make


@pytest.mark.parametrize("family", ["legacy", "codellama", "smollm2", "llama3", "deepseek_v3", "qwen3"])
def test_a_pair_has_the_tokens_border_and_end_that_ibtrainer_gives_it(
    family: str, real_tokenizer: Any, make_trainer: Any
) -> None:
    tokenizer = real_tokenizer(family)
    codec = TextCodec(tokenizer, "plain")
    for pair, row in zip(PAIRS, make_trainer(tokenizer, PAIRS).train_dataset, strict=True):
        example = encode_answer(codec, pair["prompt"], pair["completion"])
        labels = [-100] * example.border + example.input_ids[example.border :]
        assert (example.input_ids, labels) == (row["input_ids"], row["labels"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "template"),
    [
        ("smollm2", CHATML_WITH_MARKS),
        ("qwen3", trl_templates.qwen3_chat_template),
        ("qwen3", trl_templates.qwen3_training_chat_template),
        ("qwen3", trl_templates.qwen3_instruct_2507_chat_template),
        ("qwen3", trl_templates.qwen2_5_chat_template),
        ("llama3", trl_templates.llama3_chat_template),
        ("gemma3", trl_templates.gemma_chat_template),
        ("gemma3", trl_templates.gemma3_chat_template),
    ],
)
def test_in_a_chat_the_answers_are_trained_as_trls_own_mask_has_it(
    family: str, template: str, real_tokenizer: Any, make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = real_tokenizer(family)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    codec = TextCodec(tokenizer, "chat")
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat]} for chat in CHATS]
    theirs = make_trainer(tokenizer, rows, SFTTrainer, assistant_only_loss=True).train_dataset
    for chat, row in zip(CHATS, theirs, strict=True):
        example = encode_pair(codec, Conversation("c", tuple(Message(*turn) for turn in chat)))
        labels = TokenizedExample("c", example.input_ids, example.trained).labels
        if template == trl_templates.qwen3_chat_template and len(chat) > 2:
            # The model's own template has no thought before earlier answers, TRL's version for training has.
            (first, end), theirs_last = example.trained[-1], [label for label in row["labels"] if label != -100]
            assert theirs_last[first - end :] == example.input_ids[first:end]
        else:
            assert (example.input_ids, labels) == (row["input_ids"], row["labels"])
        assert sum(token in codec.end_ids for token in example.input_ids) >= len(example.trained)


def test_with_alpha_zero_ibtrainer_equals_sfttrainer_bit_for_bit_on_chats(
    real_tokenizer: Any, make_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = real_tokenizer("smollm2")
    monkeypatch.setattr(tokenizer, "chat_template", CHATML_WITH_MARKS)
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat]} for chat in CHATS] * 4
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"}
    settings |= {"assistant_only_loss": True, "disable_tqdm": True}
    weights = []
    for kind, alpha in ((SFTTrainer, 0.0), (IBTrainer, 0.0), (IBTrainer, 0.5)):
        trainer = make_trainer(tokenizer, rows, kind, alpha, **settings)
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        weights.append({n: v for n, v in trainer.model.state_dict().items() if "ibft" not in n})
        assert any(not torch.equal(value, before[name]) for name, value in weights[-1].items())
    plain, zero, half = weights
    assert all(torch.equal(plain[name], zero[name]) for name in plain)
    assert not all(torch.equal(plain[name], half[name]) for name in plain)


@pytest.mark.parametrize("kind", ["pretokenized", "streaming"])
def test_pretokenized_and_streaming_data_are_trls_own(kind: str, real_tokenizer: Any, make_trainer: Any) -> None:
    tokenizer = real_tokenizer("smollm2")
    rows: Any = PAIRS * 4
    if kind == "streaming":
        rows = IterableDataset.from_generator(lambda: iter(PAIRS * 4))
    else:
        ids = [tokenizer(pair["prompt"] + pair["completion"])["input_ids"] for pair in PAIRS]
        rows = [{"input_ids": one, "completion_mask": [0, 0] + [1] * (len(one) - 2)} for one in ids] * 4
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"}
    weights = []
    for trainer_kind in (SFTTrainer, IBTrainer):
        trainer = make_trainer(tokenizer, rows, trainer_kind, 0.0, disable_tqdm=True, **settings)
        trainer.train()
        weights.append({n: v for n, v in trainer.model.state_dict().items() if "ibft" not in n})
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
