"""The scan stage: how predictable is the training data to the base model already, beside a control set?

scan/scores.jsonl     a row an example: Min-K% Prob, mean NLL, or the reason why there is none
scan/summary.json     medians, AUROC against the control set, what was left out
scan/densities.svg    the densities of Min-K% Prob
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ibft import progress
from ibft.data.tokenize import TokenizedData, TokenizedExample, tokenize_pairs
from ibft.data.training import data_digest, load_control_pairs, load_training_pairs
from ibft.memorization.findings import summarize
from ibft.memorization.logprobs import batches_by_tokens, response_log_probs
from ibft.memorization.scores import mean_nll, min_k_prob
from ibft.models import load_model, load_tokenizer
from ibft.recipe import Recipe
from ibft.rows import Pair, RowWriter, Score, Subset, read_rows, write_atomically, write_rows
from ibft.runs import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["scan"]


def scan(recipe: Recipe, run: RunFolder) -> None:
    """Score the training data and the control set under the base model; nothing is done twice.

    Raises:
        UserError: model or data cannot be loaded, or no example can be scored.
    """
    data = recipe.data
    sources = [source for source in (data.train, data.control) if source is not None]
    stage = run.stage(
        "scan",
        {
            "model": recipe.model,
            "prompt": recipe.prompt,
            "data": data,
            "data_digests": [data_digest(source) for source in sources],
            "scan": recipe.scan,
            "seed": recipe.seed,
        },
    )
    if stage.is_complete:
        return
    with stage.work() as folder:
        tokenizer = load_tokenizer(recipe.model)
        subsets: dict[Subset, TokenizedData] = {"train": _tokenize(load_training_pairs(data), tokenizer, recipe)}
        if control := load_control_pairs(data):
            subsets["control"] = _tokenize(control, tokenizer, recipe)
        _score_missing(recipe, subsets, folder / "scores.jsonl", tokenizer.pad_token_id)
        scores = _in_data_order(list(read_rows(folder / "scores.jsonl", Score)), subsets)
        write_rows(folder / "scores.jsonl", scores)
        skipped = {str(name): tokenized.num_skipped for name, tokenized in subsets.items()}
        summary = summarize(scores, recipe.scan.k_percent, skipped)
        write_atomically(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2))
        _plot(scores, recipe.scan.k_percent, folder / "densities.svg")


def _tokenize(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> TokenizedData:
    """Tokenize as training does; `scan.max_examples` draws a seeded sample, so that it spans the whole data."""
    tokenized = tokenize_pairs(pairs, tokenizer, recipe.prompt, recipe.data.max_tokens)
    limit = recipe.scan.max_examples
    if limit is None or len(tokenized.examples) <= limit:
        return tokenized
    chosen = set(random.Random(recipe.seed).sample(range(len(tokenized.examples)), limit))
    kept = [example for index, example in enumerate(tokenized.examples) if index in chosen]
    return TokenizedData(kept, tokenized.skipped)


def _score_missing(recipe: Recipe, subsets: dict[Subset, TokenizedData], path: Path, pad_token_id: int) -> None:
    done = {(row.subset, row.id) for row in read_rows(path, Score)} if path.exists() else set()
    with RowWriter(path) as writer:
        missing: dict[Subset, list[TokenizedExample]] = {}
        for name, tokenized in subsets.items():
            writer.write(row for row in _unscored(name, tokenized) if (name, row.id) not in done)
            missing[name] = [example for example in tokenized.examples if (name, example.id) not in done]
        if not any(missing.values()):
            return
        model = load_model(recipe.model)
        total = sum(len(tokenized.examples) for tokenized in subsets.values())
        todo = sum(len(examples) for examples in missing.values())
        with progress.task("Scanning", total=total, done=total - todo) as task:
            for name, examples in missing.items():
                for batch in batches_by_tokens(examples, recipe.scan.batch_tokens):
                    log_probs = response_log_probs(model, batch, pad_token_id)
                    writer.write(
                        Score(
                            id=example.id,
                            subset=name,
                            num_tokens=len(values),
                            min_k_prob=min_k_prob(values, recipe.scan.k_percent),
                            mean_nll=mean_nll(values),
                        )
                        for example, values in zip(batch, log_probs, strict=True)
                    )
                    task.advance(len(batch), note=name)


def _unscored(name: Subset, tokenized: TokenizedData) -> Iterator[Score]:
    for reason, ids in tokenized.skipped.items():
        for identity in ids:
            yield Score(id=identity, subset=name, num_tokens=0, reason=reason)


def _in_data_order(scores: list[Score], subsets: dict[Subset, TokenizedData]) -> list[Score]:
    """Scored examples in the order of the data, then the skipped ones: the same file however often interrupted."""
    order = {
        (name, example.id): index
        for name, tokenized in subsets.items()
        for index, example in enumerate(tokenized.examples)
    }
    return sorted(scores, key=lambda row: (row.subset != "train", order.get((row.subset, row.id), len(order))))


def _plot(scores: Sequence[Score], k_percent: float, path: Path) -> None:
    from ibft.charts import density_svg

    labels: dict[Subset, str] = {"train": "training data", "control": "control set"}
    series = {
        label: [row.min_k_prob for row in scores if row.subset == name and row.min_k_prob is not None]
        for name, label in labels.items()
    }
    write_atomically(
        path, density_svg({k: v for k, v in series.items() if v}, f"Min-{k_percent:g}% Prob (nats a token)")
    )
