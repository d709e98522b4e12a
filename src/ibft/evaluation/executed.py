"""`ExecutedEvaluation`: at some steps of a training run, the model answers problems, and its programs are judged."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from transformers import TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled

from ibft import progress
from ibft.artifacts.evaluations import EvaluatedAnswer, evaluation_metrics
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.evaluation.fingerprint import fingerprint
from ibft.evaluation.judge import BackgroundJudge
from ibft.evaluation.record import Record, is_judged
from ibft.generation.ask import Wanted
from ibft.generation.draw import LocalSource, draw
from ibft.generation.formats import ask
from ibft.models.processes import decide
from ibft.problems.loading import load_problems
from ibft.run.sections import GenerateConfig, JudgeConfig, PromptConfig
from ibft.text.choice import choose_template
from ibft.text.encoding import TextCodec, codec_of
from ibft.training.undisturbed import undisturbed

if TYPE_CHECKING:
    from trl import SFTTrainer

__all__ = ["ExecutedEvaluation"]

GREEDY = GenerateConfig(num_samples=1, temperature=0.0)


class ExecutedEvaluation(TrainerCallback):  # type: ignore[misc]
    """Measures Pass@1 on problems while a `trl.SFTTrainer` trains, and leaves its training bit for bit as it was.

    The model as it is at that step, with its adapter and without dropout or a bottleneck's noise, answers the problems
    as in `ibft generate`. The sandbox judges the answers beside the next steps. Of several processes the main one
    generates; the others wait for it in their next step, at most `args.ddp_timeout` seconds.

    The figures (`artifacts.evaluations.evaluation_metrics`) come when the verdicts are there, and are logged under the
    step that they belong to: in `trainer.state.log_history`, and by every callback that logs (`args.report_to`).
    `evaluations.jsonl` has every answer with its verdict (`EvaluatedAnswer`). A run that resumes from a checkpoint
    takes from there what was done or generated with the same weights.

    Args:
        trainer: to be added to with `add_callback`; metrics that come later than their step are logged through it.
        problems: a benchmark as `load_problems` takes it, or problems. They should not be those of the final report:
            what is chosen by them has no unbiased score on them.
        every: number of optimizer steps from one evaluation to the next; None is once per epoch, and at the end.
        sampling: number of answers per problem, temperature, tokens, batch; by default one greedy answer.
        prompt: the template of the problems. Its `auto` is `chat` for instruct models with a chat template, else
            `plain`.
        judge: limits, sandbox, workers. `workers: null` leaves one core to the training.
        folder: of `evaluations.jsonl`; by default `args.output_dir`.
        seed: random seed of the sampling.

    Raises:
        UserError: problems cannot be had, or the weights are sharded (FSDP, DeepSpeed ZeRO-3). When training begins:
            no sandbox works here, no reference passes, or the model cannot read a prompt.
    """

    def __init__(
        self,
        trainer: SFTTrainer,
        problems: str | Sequence[Problem],
        *,
        every: int | None = None,
        sampling: GenerateConfig = GREEDY,
        prompt: PromptConfig | None = None,
        judge: JudgeConfig | None = None,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        if every is not None and every < 1:
            raise UserError(f"every is {every}: give a number of optimizer steps from 1 up, or None for each epoch.")
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise UserError(
                "Executed evaluation needs the whole model in one process, and FSDP or DeepSpeed ZeRO-3 shards it. Use "
                "DDP or ZeRO-2, or leave train.evaluate_problems out and run `ibft generate` after training."
            )
        self._trainer, self._every, self._sampling, self._seed = trainer, every, sampling, seed
        self._problems = load_problems(problems) if isinstance(problems, str) else list(problems)
        self._prompt, self._judge_config = prompt or PromptConfig(), judge or JudgeConfig()
        self._folder = Path(trainer.args.output_dir) if folder is None else folder
        self._judge: BackgroundJudge | None = None
        self._record: Record | None = None
        self._waiting: deque[tuple[int, Future[list[EvaluatedAnswer]]]] = deque()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Find out whether the problems can be asked and judged, and take up what an earlier attempt has left."""
        decide(lambda: self._begin(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log the evaluations that are judged by now; begin one if the step is due."""
        # Before a checkpoint of this step is written: one that is resumed from has no evaluation missing before it.
        if self._judge is None:
            return
        self._collect(waits=False)
        if self._is_due(state):
            self._evaluate(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the verdicts."""
        if self._judge is None or self._record is None:
            return
        with progress.task("Judging evaluations", total=len(self._waiting)) as task:
            self._collect(waits=True, task=task)
        self._record.finish()
        self.close()

    def __enter__(self) -> ExecutedEvaluation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox's processes, where training ended in an error; else they have ended with it.

        Leaving a `with` block does it too; without either, they end when the callback is forgotten or Python ends.
        """
        if self._judge is not None:
            self._judge.close()
        if self._record is not None:
            self._record.close()
        self._judge = self._record = None
        self._waiting.clear()

    def _is_due(self, state: Any) -> bool:
        if self._every is not None:
            return bool(state.global_step % self._every == 0)
        # Not in `on_epoch_end`, which comes after a checkpoint of the same step.
        return float(state.epoch).is_integer() or state.global_step == state.max_steps

    def _begin(self, start: int) -> None:
        self.close()  # of a training run before this one
        self._codec = self._make_codec()
        self._asks = [ask(problem, self._codec.template, self._codec.chat) for problem in self._problems]  # type: ignore[arg-type]
        # Nothing is wanted yet: the prompts alone are looked at.
        for _ in self._source().write({item.problem.task_id: item for item in self._asks}, [], self._seed):
            pass
        self._judge = BackgroundJudge(self._problems, self._judge_config)
        if excluded := self._judge.excluded:
            progress.warn(
                "Evaluation",
                f"{len(excluded)} of {len(self._problems)} problems have a reference that does not pass here and count "
                f"in no figure: {', '.join(itertools.islice(excluded, 3))}.",
            )
        self._settings = self._digest()
        self._record = Record(self._folder, self._settings, self._wanted(), start)
        if self._record.num_dropped:
            progress.warn("Earlier evaluations", "Problems or sampling have changed: they are left out.")
        is_logged = {entry["step"] for entry in self._trainer.state.log_history if "eval_programs" in entry}
        for step, rows in self._record.earlier.items():
            if not is_judged(rows):
                self._submit(step, rows)
            elif step not in is_logged:  # a kill came before its row was written
                self._log(step, rows)

    def _make_codec(self) -> TextCodec:
        tokenizer, prompt = self._trainer.processing_class, self._prompt
        if prompt.template == "auto":
            config = self._trainer.model.generation_config
            ends = config.eos_token_id if config else None
            stop_ids = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
            template = choose_template(tokenizer, stop_ids, is_conversation=False)
            prompt = msgspec.structs.replace(prompt, template=template)
        return codec_of(prompt, tokenizer)

    def _source(self) -> LocalSource:
        return LocalSource(self._trainer.accelerator.unwrap_model(self._trainer.model), self._codec, self._sampling)

    def _wanted(self) -> list[Wanted]:
        numbers = range(self._sampling.num_samples)
        return [Wanted(problem.task_id, number) for problem in self._problems for number in numbers]

    def _digest(self) -> str:
        """Return a hash of what decides an answer beside the weights, and its verdict beside the machine."""
        sampling = msgspec.structs.replace(self._sampling, batch_size=1)  # which is speed
        texts = [item.rendered.text for item in self._asks]
        limits = (self._judge_config.timeout_s, self._judge_config.memory_mib)
        content = msgspec.json.encode([self._problems, texts, sampling, limits, self._seed])
        return hashlib.sha256(content).hexdigest()[:16]

    def _evaluate(self, step: int) -> None:
        """Have the model answer the problems, and hand the answers to the judge."""
        assert self._record is not None
        model = self._trainer.model
        weights = fingerprint(model)
        rows = self._record.of(step, weights)
        if rows is None:
            with undisturbed(model), self._trainer.accelerator.autocast():
                rows = self._answers(step, weights)
            self._record.add_generated(step, rows)
        self._submit(step, rows)

    def _answers(self, step: int, weights: str) -> list[EvaluatedAnswer]:
        wanted = self._wanted()
        found: dict[Wanted, EvaluatedAnswer] = {}
        with progress.task(f"Answering at step {step}", total=None):
            for samples in draw(self._source(), self._asks, wanted, self._sampling, self._seed):
                for sample in samples:
                    fields = msgspec.structs.asdict(sample)
                    row = EvaluatedAnswer(**fields, step=step, settings=self._settings, weights=weights)
                    found[Wanted(sample.task_id, sample.index or 0)] = row
        return [found[key] for key in wanted]

    def _submit(self, step: int, rows: list[EvaluatedAnswer]) -> None:
        assert self._judge is not None
        done: Future[list[EvaluatedAnswer]] = Future()
        if is_judged(rows):
            done.set_result(rows)
        self._waiting.append((step, done if is_judged(rows) else self._judge.submit(rows)))

    def _collect(self, *, waits: bool, task: progress.Task | None = None) -> None:
        """Keep and log what is judged, in the order of the steps; with `waits`, all that was begun."""
        assert self._record is not None
        while self._waiting and (waits or self._waiting[0][1].done()):
            step, judged = self._waiting.popleft()
            rows = judged.result()
            self._record.add_judged(step, rows)
            self._log(step, rows)
            if task is not None:
                task.advance()

    def _log(self, step: int, rows: Sequence[EvaluatedAnswer]) -> None:
        metrics = evaluation_metrics(rows)
        if num_unjudged := int(metrics["eval_unjudged"]):
            reason = next(row.result for row in rows if row.status == "infrastructure_error")
            progress.warn(
                f"Evaluation at step {step}",
                f"the sandbox failed on {num_unjudged} of {len(rows)} answers ({reason}): no Pass@1 at this step.",
            )
        trainer = self._trainer
        # Also as a metric of its own: what prints rows, or numbers them itself, would not show the step.
        metrics["eval_step"] = float(step)
        trainer.state.log_history.append({**metrics, "step": step})
        # Not `trainer.log`, which would log at the step that training is at by now, and empty the averages that TRL
        # gathers for its own next row. Copies: `on_log` takes a state's step, and switches off a log that is due.
        state, control = copy.copy(trainer.state), copy.copy(trainer.control)
        state.global_step = step
        trainer.callback_handler.on_log(trainer.args, state, control, dict(metrics))
