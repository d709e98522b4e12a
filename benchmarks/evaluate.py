"""How much longer does a training step take while an evaluation is judged beside it?

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/evaluate.py

One run of a Llama of 2 layers (hidden size 128, SmolLM2's vocabulary, LoRA of rank 8, 4 rows of 32 tokens, float32)
that answers 60 problems of HumanEval every 50 steps. The answers of every second evaluation are judged: in their place
are the canonical solutions with a loop of about 0.1 CPU seconds, so that there is something to run. The others are only
generated. Compared are the steps that a judging lay beside from begin to end, and those behind an evaluation that was
not judged while nothing else was: by the clock, and by the CPU time of the training's own thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import msgspec
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM
from trl import SFTConfig

from ibft import ExecutedEvaluation
from ibft.artifacts.evaluations import EvaluatedAnswer
from ibft.models.loading import load_tokenizer
from ibft.objectives.ft import FTObjective
from ibft.problems.loading import load_problems
from ibft.run.sections import GenerateConfig, JudgeConfig, ModelConfig
from ibft.training.trainer import ObjectiveTrainer

EVERY, NUM_EVALUATIONS, NUM_ROWS, NUM_TOKENS, NUM_PROBLEMS = 50, 6, 4, 32, 60


class Alternating(ExecutedEvaluation):
    """Judges every second evaluation, and measures the steps."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.steps: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        self.judging: list[float] = []
        self._is_judged = False
        self._start = (0.0, 0.0)

    def _submit(self, step: int, rows: list[EvaluatedAnswer]) -> None:
        self._is_judged = not self._is_judged
        if not self._is_judged:
            return
        solutions = {problem.task_id: problem.canonical_solution for problem in self._problems}
        programs = {task_id: f"{solution}\nsum(range({4 * 10**6 + step}))\n" for task_id, solution in solutions.items()}
        answers = [msgspec.structs.replace(row, completion=programs[row.task_id], solution=None) for row in rows]
        begun = time.monotonic()
        super()._submit(step, answers)
        self._waiting[-1][1].add_done_callback(lambda _: self.judging.append(time.monotonic() - begun))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._start = (time.monotonic(), time.thread_time())

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        spent = (time.monotonic() - self._start[0], time.thread_time() - self._start[1])
        is_beside = any(not judged.done() for _, judged in self._waiting)
        if state.global_step > EVERY and is_beside == self._is_judged:
            self.steps[is_beside].append(spent)
        super().on_step_end(args, state, control, **keywords)


class LabelledOnly(ObjectiveTrainer):
    """As the train stage has it."""

    labelled_only = True


def make_trainer(folder: str) -> LabelledOnly:
    tokenizer = load_tokenizer(ModelConfig())
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    ids = torch.randint(100, 40_000, (64, NUM_TOKENS)).tolist()
    return LabelledOnly(
        AutoModelForCausalLM.from_config(config, dtype=torch.float32),
        SFTConfig(
            folder,
            max_steps=EVERY * (NUM_EVALUATIONS + 1),
            per_device_train_batch_size=NUM_ROWS,
            bf16=False,
            use_cpu=True,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        objective=FTObjective(),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        evaluation = Alternating(
            trainer,
            load_problems("humaneval", NUM_PROBLEMS),
            every=EVERY,
            sampling=GenerateConfig(num_samples=1, temperature=0, max_new_tokens=4),
            judge=JudgeConfig(cache=False),
        )
        trainer.add_callback(evaluation)
        trainer.train()
    print(f"judging {NUM_PROBLEMS} answers: {statistics.median(evaluation.judging):.1f} s")
    for name, which in (("clock", 0), ("CPU time of the training's thread", 1)):
        beside, alone = (
            statistics.median(step[which] for step in evaluation.steps[is_judged]) for is_judged in (True, False)
        )
        print(
            f"{name}: {1000 * alone:.0f} ms per step, {1000 * beside:.0f} ms beside a judging "
            f"({len(evaluation.steps[False])} and {len(evaluation.steps[True])} steps): {beside / alone:.3f}"
        )


if __name__ == "__main__":
    main()
