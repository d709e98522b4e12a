"""How fast is the scan, are its scores right, and does its memory stay flat?

    python benchmarks/scan.py speed --model smollm2      # or tiny: its shape, 64 wide; shallow: its first 2 layers
    python benchmarks/scan.py memory                     # 10,000 and 200,000 rows, a tiny model

speed: three contenders take turns on the same examples (functions of the standard library), in float32.
    usual   the usual script, written anew: one example at a time, logits of all positions, full softmax and
            log-softmax, Min-K% and Min-K%++ at every K.
    nll     batches and memory as in the scan, and the mean NLL alone.
    scan    what `ibft scan` does: tokens, masks of syntax, all scores with and without forced tokens, extraction.
Bars: scan at least 3 (GPU: 10) times as fast as usual, at most 1.10 times as long as nll, scores within 1e-4.

memory: peak of the whole `ibft scan` process, and how often it grows between the two sizes. Bar: within 5%.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ibft.allocator import keeping_freed_memory
from ibft.data.training import Example, stream_examples
from ibft.memorization import token_stats
from ibft.memorization.examples import ScanExample, tokenize_example
from ibft.memorization.scorer import Scorer
from ibft.models import load_model, load_tokenizer, resolve_dtype
from ibft.projection import Projection
from ibft.recipe import DataConfig, ModelConfig, Recipe, ScanConfig

K_PERCENT = (10, 20, 30, 50)
SPEED_BAR = {"cpu": 3.0, "cuda": 10.0}
NLL_BAR, SCORE_BAR, MEMORY_BAR = 1.10, 1e-4, 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--model", choices=[*MODELS], default="smollm2")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="the contenders take turns, a share of the examples each")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, default=1024, help="of the scan; its own choice on a CPU")
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 200_000])
    parser.add_argument("--scan-dtype", default="float32", help="of nll and scan: auto is what `ibft scan` takes here")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = speed(arguments) if arguments.what == "speed" else memory(arguments)
    if arguments.out:
        found = {"command": ["python", *sys.argv], "device": _device(), **found}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


@dataclasses.dataclass
class Contender:
    """A way to score examples, its times, and what it found: example to score to value."""

    name: str
    run: Callable[[Sequence[tuple[int, Example]]], dict[int, dict[str, float]]]
    seconds: list[float] = dataclasses.field(default_factory=list)
    scores: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)

    def take_turn(self, items: Sequence[tuple[int, Example]]) -> None:
        start = time.perf_counter()
        self.scores |= self.run(items)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - start)


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    recipe = Recipe(
        name="benchmark",
        model=ModelConfig(dtype="float32"),
        data=DataConfig(max_tokens=arguments.max_tokens),
        scan=ScanConfig(k_percent=K_PERCENT, batch_tokens=arguments.batch_tokens),
    )
    tokenizer = load_tokenizer(recipe.model)
    model = MODELS[arguments.model](recipe.model)
    items = _items(recipe, tokenizer, arguments.examples)
    scanned = model
    if arguments.scan_dtype != "float32":
        scanned = copy.deepcopy(model).to(resolve_dtype(ModelConfig(dtype=arguments.scan_dtype), model.device))
    scorer = Scorer(recipe, scanned, tokenizer)
    contenders = [
        Contender("usual", lambda items: usual(model, tokenizer, items)),
        Contender("nll", keeping_freed_memory()(lambda items: plain_nll(scanned, tokenizer, recipe, items))),
        Contender("scan", keeping_freed_memory()(lambda items: _scan(scorer, items))),
    ]
    for contender in contenders:
        contender.run(items[:8])
    size = -(-len(items) // arguments.rounds)
    for start in range(0, len(items), size):
        for contender in contenders:
            contender.take_turn(items[start : start + size])
    by_name = {contender.name: contender for contender in contenders}
    num_tokens = sum(len(tokenize_example(e.pair, tokenizer, recipe)[0].input_ids) for _, e in items)
    worst = max(
        abs(by_name["scan"].scores[index][name] - value)
        for index, of_usual in by_name["usual"].scores.items()
        for name, value in of_usual.items()
    )
    ratios = {
        name: statistics.median(a / b for a, b in zip(by_name[one].seconds, by_name[other].seconds, strict=True))
        for name, one, other in (("usual / scan", "usual", "scan"), ("scan / nll", "scan", "nll"))
    }
    bar = SPEED_BAR[model.device.type]
    print(f"{len(items)} examples, {num_tokens} tokens, {arguments.model}, scanned in {scanned.dtype}, {_device()}")
    print("| contender | seconds | tokens/s |\n|---|---|---|")
    for contender in contenders:
        print(f"| {contender.name} | {sum(contender.seconds):.1f} | {num_tokens / sum(contender.seconds):,.0f} |")
    print(f"usual / scan {ratios['usual / scan']:.2f} (bar: at least {bar:g})")
    print(f"scan / nll {ratios['scan / nll']:.3f} (bar: at most {NLL_BAR})")
    print(f"largest difference of a score {worst:.1e} (bar: {SCORE_BAR:g})")
    return {
        "model": arguments.model,
        "scan_dtype": str(scanned.dtype),
        "num_examples": len(items),
        "num_tokens": num_tokens,
        "seconds": {contender.name: contender.seconds for contender in contenders},
        "ratios": ratios,
        "largest_difference": worst,
    }


def _scan(scorer: Scorer, items: Sequence[tuple[int, Example]]) -> dict[int, dict[str, float]]:
    return {row.index: row.scores for rows in scorer.rows("train", scorer.start(items)) for row in rows}


def usual(model: Any, tokenizer: Any, items: Sequence[tuple[int, Example]]) -> dict[int, dict[str, float]]:
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


def plain_nll(
    model: Any, tokenizer: Any, recipe: Recipe, items: Sequence[tuple[int, Example]]
) -> dict[int, dict[str, float]]:
    """The scan's batches, and of each scored position the log-probability of its token alone."""
    examples = {}
    for index, example in items:
        ids, start = _tokens(tokenizer, example)
        examples[index] = ScanExample(ids, start, start, forced=None, num_zlib_bytes=1, fingerprint="")
    indices = {id(example): index for index, example in examples.items()}
    projection, found = Projection.of(model), {}
    for batch in token_stats.batches_by_tokens(list(examples.values()), recipe.scan.batch_tokens):
        shape = (len(batch), len(batch[0].input_ids))
        ids_BT, mask_BT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        scored_BT = torch.zeros(shape, dtype=torch.bool)
        for row, example in enumerate(batch):
            length = len(example.input_ids)
            ids_BT[row, :length], mask_BT[row, :length] = torch.tensor(example.input_ids), 1
            scored_BT[row, example.start : length] = True
        ids_BT, mask_BT, scored_BT = (tensor.to(model.device) for tensor in (ids_BT, mask_BT, scored_BT))
        with torch.inference_mode():
            hidden = model.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
            hidden_NH, targets_N = hidden[:, :-1][scored_BT[:, 1:]], ids_BT[scored_BT]
            losses = [
                F.cross_entropy(projection.logits(hidden_nH), targets_n, reduction="none")
                for hidden_nH, targets_n in zip(
                    hidden_NH.split(token_stats.CHUNK), targets_N.split(token_stats.CHUNK), strict=True
                )
            ]
        values = torch.cat(losses).cpu().split([len(example.input_ids) - example.start for example in batch])
        found |= {
            indices[id(example)]: {"mean_nll": float(of_one.mean())}
            for example, of_one in zip(batch, values, strict=True)
        }
    return found


def _tokens(tokenizer: Any, example: Example) -> tuple[list[int], int]:
    """The text's tokens, and the first of the response."""
    prompt = str(example.pair.prompt)
    encoded = tokenizer(prompt + example.pair.completion, add_special_tokens=False, return_offsets_mapping=True)
    start = next(place for place, (begin, _) in enumerate(encoded["offset_mapping"]) if begin >= len(prompt))
    return encoded["input_ids"], start


def _items(recipe: Recipe, tokenizer: Any, count: int) -> list[tuple[int, Example]]:
    usable = [
        example
        for example in stream_examples("functions:stdlib")
        if tokenize_example(example.pair, tokenizer, recipe)[0] is not None
    ]
    return list(enumerate(random.Random(0).sample(usable, min(count, len(usable)))))


def _tiny(config: ModelConfig) -> Any:
    """Layers, vocabulary and tokenizer of SmolLM2, a ninth of its width; random weights that predict sharply."""
    shape = load_model(config).config
    shape.hidden_size, shape.intermediate_size = 64, 170
    shape.num_attention_heads = shape.num_key_value_heads = 1
    shape.initializer_range = 0.3
    torch.manual_seed(0)
    return LlamaForCausalLM(shape).eval()


def _shallow(config: ModelConfig) -> Any:
    """SmolLM2 without all but its first 2 layers."""
    model = load_model(config)
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2
    return model


MODELS = {"smollm2": load_model, "tiny": _tiny, "shallow": _shallow}


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


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.processor() or 'CPU'}, 2 threads"


if __name__ == "__main__":
    main()
