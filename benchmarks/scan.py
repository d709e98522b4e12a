"""How fast is the scan, are its scores right, and does its memory stay flat?

    python benchmarks/scan.py speed --model smollm2      # or tiny: its shape, 64 wide; shallow: its first 2 layers
    python benchmarks/scan.py speed --model 7b --scan-dtype auto --contenders forward scan --examples 4000  # on a GPU
    python benchmarks/scan.py memory                     # 10,000 and 200,000 rows, a tiny model

speed: contenders take turns on the same examples (functions of the standard library), in float32.
    usual   the usual script, written anew: one example at a time, logits of all positions, full softmax and
            log-softmax, Min-K% and Min-K%++ at every K.
    exact   the usual script in float64: how far are the others from the truth? Slow, so only when asked for.
    nll     batches and memory as in the scan, and the mean NLL alone.
    forward the model's forward passes alone, on the scan's batches, with the logits of the scored positions.
    scan    what `ibft scan` does: tokens, all scores, extraction, rows in files.
Bars: scan at least 3 (GPU: 10) times as fast as usual, at most 1.10 times as long as nll, scores within 1e-4; on a GPU
forward at least 85% of scan.

memory: peak of the whole `ibft scan` process, and how often it grows between the two sizes. Bar: within 5%.
"""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import heapq
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from facts import device_name, facts
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Score
from ibft.data.subsets import NumberedExamples
from ibft.data.training import Example, stream_examples
from ibft.models.allocator import keeping_freed_memory
from ibft.models.loading import limits_of, load_config, load_model, load_tokenizer, resolve_device, resolve_dtype
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, ScanConfig
from ibft.scoring import token_stats
from ibft.scoring.blocks import BLOCK, complete_blocks, score_blocks
from ibft.scoring.encoder import Encoder, ScanExample
from ibft.scoring.engine import Scorer
from ibft.stages.scan import make_scorer
from ibft.text.encoding import codec_of
from train_setup import RANDOM_MODELS

K_PERCENT = (10, 20, 30, 50)
SPEED_BAR = {"cpu": 3.0, "cuda": 10.0}
NLL_BAR, FORWARD_BAR, SCORE_BAR, MEMORY_BAR = 1.10, 0.85, 1e-4, 1.05

Items = Sequence[tuple[int, Example]]
Scores = dict[int, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--model", choices=[*MODELS], default="smollm2")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="the contenders take turns, a share of the examples each")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, help="of nll, forward and scan; the scan's own choice by itself")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS[1:])
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 200_000])
    parser.add_argument(
        "--scan-dtype", default="float32", help="of nll, forward and scan: auto is what `ibft scan` takes here"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = speed(arguments) if arguments.what == "speed" else memory(arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts(), **found}, indent=1) + "\n")


CONTENDERS = ["exact", "usual", "nll", "forward", "scan"]


@dataclasses.dataclass
class Contender:
    """A way to score examples, its times, and what it found: example to score to value."""

    run: Callable[[Items], Scores]
    seconds: list[float] = dataclasses.field(default_factory=list)
    scores: Scores = dataclasses.field(default_factory=dict)

    def take_turn(self, items: Items) -> None:
        start = time.perf_counter()
        self.scores |= self.run(items)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - start)


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    recipe = Recipe(
        name="benchmark",
        model=ModelConfig(dtype="float32"),
        prompt=PromptConfig(template="plain"),
        data=DataConfig(max_tokens=arguments.max_tokens),
        scan=ScanConfig(k_percent=K_PERCENT, batch_tokens=arguments.batch_tokens),
    )
    tokenizer = load_tokenizer(recipe.model)
    dtype = resolve_dtype(ModelConfig(dtype=arguments.scan_dtype), resolve_device(recipe.model))
    scanned = MODELS[arguments.model](recipe.model, dtype)
    model = scanned if dtype == torch.float32 else None
    if model is None and {"exact", "usual"} & set(arguments.contenders):
        model = copy.deepcopy(scanned).float()
    items = _items(recipe, tokenizer, arguments.examples)
    scorer = make_scorer(recipe, scanned, tokenizer)
    encoded = [scorer.encoder.encode("train", index, example) for index, example in items]
    examples = {example.row.index: example for example in encoded if isinstance(example, ScanExample)}
    batch_tokens = scorer.forward.batch_tokens
    kept = keeping_freed_memory()
    exact = copy.deepcopy(model).double() if "exact" in arguments.contenders else None
    ways: dict[str, Callable[[Items], Scores]] = {
        "exact": lambda items: usual(exact, tokenizer, items),
        "usual": lambda items: usual(model, tokenizer, items),
        "nll": kept(lambda items: plain_nll(scanned, tokenizer, batch_tokens, items)),
        "forward": kept(lambda items: forward(scanned, batch_tokens, [examples[index] for index, _ in items])),
        "scan": kept(lambda items: _scan(scorer, items)),
    }
    contenders = {name: Contender(ways[name]) for name in arguments.contenders}
    size = -(-len(items) // arguments.rounds)
    for name, contender in contenders.items():
        # A GPU's kernels are made for the sizes that they meet.
        contender.run(items[: size if scanned.device.type != "cpu" and name in ("nll", "forward", "scan") else 8])
    for start in range(0, len(items), size):
        for contender in contenders.values():
            contender.take_turn(items[start : start + size])
    num_tokens = sum(len(example.input_ids) for example in examples.values())
    print(f"{len(items)} examples, {num_tokens} tokens, {arguments.model}, scanned in {scanned.dtype}, {device_name()}")
    print("| contender | seconds | tokens/s |\n|---|---|---|")
    for name, contender in contenders.items():
        print(f"| {name} | {sum(contender.seconds):.1f} | {num_tokens / sum(contender.seconds):,.0f} |")
    return {
        "model": arguments.model,
        "scan_dtype": str(scanned.dtype),
        "batch_tokens": batch_tokens,
        "num_examples": len(items),
        "num_tokens": num_tokens,
        "seconds": {name: contender.seconds for name, contender in contenders.items()},
        **_compared(contenders, scanned.device.type),
    }


def _compared(contenders: dict[str, Contender], device: str) -> dict[str, Any]:
    """Ratios, the median over rounds, and the largest difference of a score; printed with their bars."""
    bars = {
        ("usual", "scan"): f" (bar: at least {SPEED_BAR[device]:g})",
        ("scan", "nll"): f" (bar: at most {NLL_BAR})",
        ("forward", "scan"): f" (bar: at least {FORWARD_BAR})" if device == "cuda" else "",
    }
    ratios = {}
    for (one, other), bar in bars.items():
        if one in contenders and other in contenders:
            both = zip(contenders[one].seconds, contenders[other].seconds, strict=True)
            ratios[f"{one} / {other}"] = ratio = statistics.median(a / b for a, b in both)
            print(f"{one} / {other} {ratio:.3f}{bar}")
    worst = {}
    for one, other in (("scan", "usual"), ("scan", "exact"), ("usual", "exact")):
        if one in contenders and other in contenders:
            worst[f"{one} - {other}"] = _largest_differences(contenders[one].scores, contenders[other].scores)
            first, *_ = worst[f"{one} - {other}"]
            print(
                f"largest difference of a score, {one} and {other}: {first['difference']:.1e} (bar: {SCORE_BAR:g}), "
                f"of {first['score']} = {first['value']:.3f}"
            )
    return {"ratios": ratios, "largest_differences": worst}


def _largest_differences(ours: Scores, theirs: Scores) -> list[dict[str, Any]]:
    """The ten largest, with the example, the score and its value."""
    differences = [
        {"difference": abs(ours[index][name] - value), "example": index, "score": name, "value": value}
        for index, scores in theirs.items()
        for name, value in scores.items()
    ]
    return heapq.nlargest(10, differences, key=lambda one: one["difference"])


def _scan(scorer: Scorer, items: Items) -> Scores:
    with tempfile.TemporaryDirectory(prefix="ibft-benchmark-") as name:
        folder = Path(name)
        examples = NumberedExamples("train", lambda: (example for _, example in items))
        score_blocks(folder, [examples], scorer)
        rows = (row for file in complete_blocks(folder, {"train": len(items)}) for row in read_rows(file, Score))
        return {items[row.index][0]: row.scores for row in rows}


def usual(model: Any, tokenizer: Any, items: Items) -> Scores:
    """One example at a time, as published scripts do it: the loss from the model, the rest from its logits.

    (swj0419/detect-pretrain-code and zjysteven/mink-plus-plus, src/run.py; without the second forward pass of the
    first, for lower-cased text.)
    """
    found = {}
    for index, example in items:
        tokens, start = _tokens(tokenizer, example)
        ids = torch.tensor([tokens], device=model.device)
        with torch.no_grad():
            output = model(ids, labels=ids)
        logits = output.logits[0, :-1]
        log_probs = F.log_softmax(logits, dim=-1)
        probs = F.softmax(logits, dim=-1)
        token_log_probs = log_probs.gather(1, ids[0, 1:, None]).squeeze(-1)
        mean = (probs * log_probs).sum(-1)
        variance = (probs * log_probs.square()).sum(-1) - mean.square()
        response = slice(start - 1, None)
        values = token_log_probs[response].cpu().numpy()
        z = ((token_log_probs - mean) / variance.sqrt())[response].cpu().numpy()
        scores = {"mean_nll": float(-values.mean())}
        for k in K_PERCENT:
            count = max(1, int(len(values) * k / 100))
            scores[f"min_k_prob_{k}"] = float(-np.sort(values)[:count].mean())
            scores[f"min_k_plus_plus_{k}"] = float(-np.sort(z)[:count].mean())
        found[index] = scores
    return found


def plain_nll(model: Any, tokenizer: Any, batch_tokens: int, items: Items) -> Scores:
    """The scan's batches, and of each scored position the log-probability of its token alone."""

    def log_probs(raw_nV: Tensor, targets_n: Tensor) -> Tensor:
        return -F.cross_entropy(raw_nV.float(), targets_n, reduction="none")

    tokens = [_tokens(tokenizer, example) for _, example in items]
    examples = [
        ScanExample(ids, start, start, Score(id="", subset="train", index=index), num_zlib_bytes=1)
        for (ids, start), (index, _) in zip(tokens, items, strict=True)
    ]
    return {
        example.row.index: {"mean_nll": float(-values.mean())}
        for example, values in _forward(model, batch_tokens, examples, log_probs)
    }


def forward(model: Any, batch_tokens: int, examples: Sequence[ScanExample]) -> Scores:
    """The scan's batches through the model and `lm_head`; of the logits no more than one a position is read."""
    collections.deque(_forward(model, batch_tokens, examples, lambda raw_nV, _: raw_nV[:, 0]), maxlen=0)
    return {}


def _forward(
    model: Any,
    batch_tokens: int,
    examples: Sequence[ScanExample],
    reduced: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[ScanExample, Any]]:
    """`token_stats.begin_batch` with one value a position, all batches begun before the first is waited for."""

    def values(raw_nV: Tensor, targets_n: Tensor, scale: float, softcap: float | None) -> tuple[Tensor, ...]:
        return (reduced(raw_nV, targets_n).float(),) * 4

    begun = []
    whole_chunks = {"CACHED": token_stats.CHUNK, "_reduced": values, "_reduced_on_gpu": values}
    with mock.patch.multiple(token_stats, **whole_chunks):
        for start in range(0, len(examples), BLOCK):
            for batch in token_stats.batches_by_tokens(examples[start : start + BLOCK], batch_tokens):
                begun.append((batch, token_stats.begin_batch(model, batch, 0)))
    for batch, stats in begun:
        yield from zip(batch, (of_one.log_prob for of_one in stats.collect()), strict=True)


def _tokens(tokenizer: Any, example: Example) -> tuple[list[int], int]:
    """The text's tokens, and the first of the response."""
    prompt = str(example.pair.prompt)
    encoded = tokenizer(prompt + example.pair.completion, add_special_tokens=False, return_offsets_mapping=True)
    start = next(place for place, (begin, _) in enumerate(encoded["offset_mapping"]) if begin >= len(prompt))
    return encoded["input_ids"], start


def _items(recipe: Recipe, tokenizer: Any, count: int) -> Items:
    limits = limits_of(load_config(recipe.model))
    encoder = Encoder(codec_of(recipe.prompt, tokenizer), limits, max_tokens=recipe.data.max_tokens)
    usable = [example for example in stream_examples("functions:stdlib") if encoder.reason(example.pair) is None]
    return list(enumerate(random.Random(0).sample(usable, min(count, len(usable)))))


def _tiny(config: ModelConfig, dtype: torch.dtype) -> Any:
    """Layers, vocabulary and tokenizer of SmolLM2, a ninth of its width; random weights that predict sharply."""
    shape = load_model(config).config
    shape.hidden_size, shape.intermediate_size = 64, 170
    shape.num_attention_heads = shape.num_key_value_heads = 1
    shape.initializer_range = 0.3
    torch.manual_seed(0)
    return LlamaForCausalLM(shape).eval().to(resolve_device(config), dtype)


def _shallow(config: ModelConfig, dtype: torch.dtype) -> Any:
    """SmolLM2 without all but its first 2 layers."""
    model = load_model(config, dtype=dtype)
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    return model


def _7b(config: ModelConfig, dtype: torch.dtype) -> Any:
    """The shape of deepseek-coder-7b-instruct-v1.5, random weights made on the device, SmolLM2's tokenizer."""
    torch.manual_seed(0)
    with resolve_device(config):
        return LlamaForCausalLM._from_config(LlamaConfig(pad_token_id=0, **RANDOM_MODELS["7b"]), dtype=dtype).eval()


MODELS = {
    "smollm2": lambda config, dtype: load_model(config, dtype=dtype),
    "tiny": _tiny,
    "shallow": _shallow,
    "7b": _7b,
}


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peaks of `ibft scan` on files of two sizes."""
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="ibft-benchmark-") as name:
        folder = Path(name)
        _save_tiny_model(folder / "model")
        for count in arguments.rows:
            for subset in ("train", "control"):
                _write_rows(folder / f"{subset}.jsonl", count // (1 if subset == "train" else 10), subset)
            recipe = folder / "scan.yaml"
            recipe.write_text(
                json.dumps(
                    {
                        "name": f"rows-{count}",
                        "output": str(folder),
                        "model": {"name": str(folder / "model"), "dtype": "float32"},
                        "prompt": {"template": "plain"},
                        "data": {"train": str(folder / "train.jsonl"), "control": str(folder / "control.jsonl")},
                        "scan": {"prefix_tokens": 4, "suffix_tokens": 4, "batch_tokens": 8192},
                    }
                )
            )
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _RUN, "scan", str(recipe)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            peaks[count] = int(done.stderr.rsplit("VmHWM", 1)[1]) / 1024
            print(f"{count:,} rows: peak {peaks[count]:,.0f} MiB, {time.perf_counter() - start:.0f} s", flush=True)
    ratio = peaks[arguments.rows[1]] / peaks[arguments.rows[0]]
    print(f"ratio {ratio:.3f} (bar: {MEMORY_BAR})")
    return {"peak_mib": peaks, "ratio": ratio}


_RUN = """
import atexit, re, sys
from ibft.cli import main
def peak():
    print("VmHWM", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
atexit.register(peak)
main()
"""


def _save_tiny_model(folder: Path) -> None:
    """A model and a tokenizer of single bytes: what is measured is the scan's memory, not the model's."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {word: index for index, word in enumerate(["<eos>", *sorted(letters)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def _write_rows(path: Path, count: int, subset: str) -> None:
    """Short functions, each other than the rest."""
    chance = random.Random(subset)
    with open(path, "w") as file:
        for number in range(count):
            name, a, b = f"{subset}_{number}", chance.randrange(10**6), chance.randrange(10**6)
            row = {
                "id": name,
                "prompt": f"def {name}(x):\n",
                "completion": f"    y = x * {a}\n    if y > {b}:\n        return [y, {b}]\n    return y - {a}\n",
                "file": f"{subset}/{number // 20}.py",
            }
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
