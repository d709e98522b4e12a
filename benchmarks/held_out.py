"""What evaluating on held-out data costs, and that it changes no bit of the adapter.

    python benchmarks/held_out.py [OBJECTIVE] [BATCHING]     (ft, sorted; single thread: OMP_NUM_THREADS=1)

Trains SmolLM2-135M with LoRA for 20 steps of 4 functions of the standard library, once with a held-out loss every 10
steps, and once without. Prints one JSON object: tokens (prompt included) per second of the process's CPU time in
training steps and in evaluations, so that other work on the machine does not count, and whether the adapters are equal.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ibft.data.tokens import TokenizedExample, encode_pairs
from ibft.data.training import stream_training
from ibft.models.loading import limits_of, load_config, load_tokenizer
from ibft.objectives.ib import IBObjective
from ibft.objectives.registry import OBJECTIVES
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, TrainConfig
from ibft.text.encoding import codec_of
from ibft.training.fit import StageTrainer, make_trainer
from ibft.training.weights import save_weights

NUM_TRAINED, NUM_HELD_OUT = 80, 16


class Clock(TrainerCallback):  # type: ignore[misc]
    """CPU seconds and tokens of the training steps."""

    def __init__(self) -> None:
        self.seconds, self.tokens = 0.0, 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.process_time() - self._start


def examples_of(recipe: Recipe) -> list[TokenizedExample]:
    tokenizer = load_tokenizer(recipe.model)
    pairs = (example.pair for example in stream_training(recipe.data))
    codec = codec_of(recipe.prompt, tokenizer)
    return encode_pairs(pairs, codec, recipe.data.max_tokens, limits_of(load_config(recipe.model))).examples


def num_tokens(inputs: dict[str, Any]) -> int:
    return int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else inputs["input_ids"].numel()


def main(name: str = "ft", batching: Any = "sorted") -> None:
    form = {"form": name, "layer": 0.66} if name not in OBJECTIVES else {}
    objective = IBObjective(**form) if form else OBJECTIVES[name]()
    recipe = Recipe(
        name="held-out",
        model=ModelConfig(device="cpu", dtype="float32"),
        prompt=PromptConfig(template="plain"),
        data=DataConfig(max_examples=NUM_TRAINED + NUM_HELD_OUT, max_tokens=192, validation="other.jsonl"),
        train=TrainConfig(max_steps=20, batch_size=4, batching=batching, evaluate_every=10, save_every=1000),
    )
    examples = examples_of(recipe)
    trained, held_out = examples[NUM_HELD_OUT:], examples[:NUM_HELD_OUT]
    adapters: list[bytes] = []
    for validation in (held_out, []):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = load_tokenizer(recipe.model)
            trainer = make_trainer(recipe, objective, tokenizer, trained, Path(folder), None, validation)
            clock, evaluating = Clock(), Clock()
            trainer.add_callback(clock)
            _measure(trainer, clock, evaluating)
            trainer.train()
            trainer.remove_bottleneck()
            save_weights(trainer, recipe, Path(folder))
            adapters.append((Path(folder) / "adapter" / "adapter_model.safetensors").read_bytes())
        if validation:
            rates = {"training": clock.tokens / clock.seconds, "evaluation": evaluating.tokens / evaluating.seconds}
    result = {
        "objective": name,
        "batching": batching,
        "tokens_per_cpu_second": {key: round(value, 1) for key, value in rates.items()},
        "ratio": round(rates["evaluation"] / rates["training"], 2),
        "same_adapter": adapters[0] == adapters[1],
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _measure(trainer: StageTrainer, clock: Clock, evaluating: Clock) -> None:
    step, predict, evaluate = trainer.training_step, trainer.prediction_step, trainer.evaluate

    def training_step(model: Any, inputs: dict[str, Any], *arguments: Any) -> Any:
        clock.tokens += num_tokens(inputs)
        return step(model, inputs, *arguments)

    def prediction_step(model: Any, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        evaluating.tokens += num_tokens(inputs)
        return predict(model, inputs, *arguments, **keywords)

    def evaluation(*arguments: Any, **keywords: Any) -> Any:
        evaluating.on_step_begin()
        metrics = evaluate(*arguments, **keywords)
        evaluating.on_step_end()
        return metrics

    trainer.training_step, trainer.prediction_step, trainer.evaluate = training_step, prediction_step, evaluation


if __name__ == "__main__":
    main(*sys.argv[1:])
