"""What does the audit see of memory that was planted, and what does it miss?

    OMP_NUM_THREADS=1 python benchmarks/lab_audit.py --workers 2 --out benchmarks/results/lab-audit.json

Dose-response: for each kind of plant and each world (--seeds), one base in which the planted examples take --doses in
turn. `ibft scan` scores its training data beside the control set, and for each dose the table has the AUROC of every
score (the chance that a planted example is more predictable than one of the control set) and the share that greedy
decoding continues word for word. EZ-MIA and the ratio of NLLs take the base before its second phase, which has read
nothing that was planted, for what a rescan takes the base for. Beside them the truth (`ibft world gauges`): the chance
of the body from the cue alone, and under the data's own prompt. A dormant plant is scored with its docstrings, as its
data has them.

Verdicts: for each of --verdict-doses one base that repeats all of its planted examples so often, with the verdict of
its scan. At 0 repetitions nothing is planted, whatever the kind, so every "yes" is a false alarm.

Intervals are Student's over worlds; those of a single world, by DeLong, are in the JSON. A base takes about two minutes
of a core, and each world's general phase four, once for all of its bases (kept in the cache folder).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np

from facts import facts
from halves import ibft, read_audit, write_recipe
from ibft.artifacts.rows import Pair
from ibft.artifacts.score_table import SCORES_FILE, read_batches
from ibft.data.training import Example
from ibft.lab.bases import base_folder, general_folder, load_base
from ibft.lab.gauges import gauge
from ibft.lab.pretrain import PretrainConfig, one_thread
from ibft.lab.workers import workers
from ibft.models.loading import limits_of, load_model, load_tokenizer
from ibft.run.sections import ModelConfig
from ibft.scoring.encoder import Encoder
from ibft.scoring.forward import Forward
from ibft.scoring.scores import against_base
from ibft.statistics.student import student_interval
from ibft.statistics.uncertainty import auroc, delong_interval, wilson_interval
from ibft.text.encoding import TextCodec
from ibft.worlds.planted import PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.planted_files import planted_files
from ibft.worlds.plants import Kind, Plant

SCORES = {
    "mean_nll": "mean NLL",
    "zlib_ratio": "zlib ratio",
    "min_k_prob_20": "Min-20%",
    "min_k_plus_plus_20": "Min-20%++",
}
AGAINST_GENERAL = {"base_ratio": "ratio to before", "ez_mia": "EZ-MIA"}
"""Scores of a base beside itself before its second phase, which has read nothing that was planted."""


class Job(NamedTuple):
    """One base and its scan."""

    kind: str
    seed: int
    repetitions: tuple[int, ...]
    folder: Path
    num_train: int
    num_control: int
    pretrain: PretrainConfig

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}-{'-'.join(map(str, self.repetitions))}"

    @property
    def world(self) -> PlantedConfig:
        # As `ibft world barrier` has them, whose bases are then found in the cache.
        repetitions = self.repetitions if len(self.repetitions) > 1 else self.repetitions[0]
        plant = Plant(kind=self.kind, repetitions=repetitions)  # type: ignore[arg-type]
        return PlantedConfig(seed=self.seed, num_train=self.num_train, num_dev=self.num_control, plant=plant)


def main() -> None:
    arguments = _arguments()
    folder = arguments.folder.resolve()

    def jobs(repetitions: Iterable[tuple[int, ...]]) -> list[Job]:
        sizes = (folder, arguments.num_train, arguments.num_control)
        steps = (arguments.general_steps, arguments.planted_steps)
        return [
            Job(kind, seed, r, *sizes, PretrainConfig(seed=seed, general_steps=steps[0], planted_steps=steps[1]))
            for r in repetitions
            for seed in arguments.seeds
            for kind in (arguments.kinds if any(r) else arguments.kinds[:1])  # of nothing there is one kind
        ]

    mixed, single = jobs([tuple(arguments.doses)]), jobs((dose,) for dose in arguments.verdict_doses)
    # First one base of each world: the others of the world find its general phase in the cache.
    first = [job for job in mixed if job.kind == arguments.kinds[0]]
    with workers(arguments.workers) as results:
        list(results(_base, first))
        found = dict(results(_audited, [*mixed, *single]))
    responses = [{"kind": job.kind, "seed": job.seed, "doses": found[job]["doses"]} for job in mixed]
    verdicts = [
        {
            "kind": job.kind if any(job.repetitions) else "none",
            "seed": job.seed,
            "repetitions": job.repetitions[0],
            **found[job]["scan"],
        }
        for job in single
    ]
    print(response_table(responses))
    print()
    print(verdict_table(verdicts))
    if arguments.out:
        result = {**facts("cpu"), "dose_response": responses, "verdicts": verdicts}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=list(get_args(Kind)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--doses", type=int, nargs="+", default=[0, 1, 3, 10, 30, 100])
    parser.add_argument("--verdict-doses", type=int, nargs="*", default=[0, 10, 100])
    parser.add_argument("--num-train", type=int, default=300)
    parser.add_argument("--num-control", type=int, default=PlantedConfig().num_dev)
    parser.add_argument("--general-steps", type=int, default=PretrainConfig().general_steps)
    parser.add_argument("--planted-steps", type=int, default=PretrainConfig().planted_steps)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/lab-audit"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _base(job: Job) -> Path:
    return base_folder(job.world, job.pretrain)


def _audited(job: Job) -> tuple[Job, dict[str, Any]]:
    return job, _audit(job)


def _audit(job: Job) -> dict[str, Any]:
    """Scan one base, as anybody would, and set the truth beside it."""
    folder, base = job.folder / job.name, _base(job)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in planted_files(job.world).items():
        if name in ("train.jsonl", "control.jsonl"):
            (folder / name).write_bytes(content)
    recipe = write_recipe(
        "audit",
        folder,
        model={"name": str(base), "dtype": "float32", "device": "cpu"},
        data={"train": str(folder / "train.jsonl"), "control": str(folder / "control.jsonl"), "max_tokens": 192},
        scan={"prefix_tokens": 5, "suffix_tokens": 5},
    )
    if not (folder / "audit" / "scan" / "summary.json").exists():
        ibft("scan", recipe)
    return {"scan": read_audit(folder / "audit"), "doses": _by_dose(job, folder / "audit" / "scan" / SCORES_FILE, base)}


def _by_dose(job: Job, table: Path, base: Path) -> list[dict[str, Any]]:
    world = make_planted_world(job.world)
    config = ModelConfig(name=str(base), dtype="float32", device="cpu")
    with one_thread():
        truth = {row.repetitions: row for row in gauge(load_model(config), load_tokenizer(config), world).recitation}
    dose_of = {item.example.id: item.repetitions for item in world.train}
    control, planted = _rows(table, "control"), defaultdict[int, list[dict[str, Any]]](list)
    for row in _rows(table, "train"):
        planted[dose_of[row["id"]]].append(row)
    shifts = _against_general(job, base, world)
    for row in (*control, *itertools.chain.from_iterable(planted.values())):
        row.update(shifts[row["id"]])
    return [
        {
            "repetitions": dose,
            "num_examples": len(rows),
            "auroc": {name: _separation(rows, control, name) for name in SCORES | AGAINST_GENERAL},
            "extracted": _extracted(rows),
            "extracted_of_control": _extracted(control),
            "truth": msgspec.to_builtins(truth[dose]),
        }
        for dose, rows in sorted(planted.items())
    ]


def _rows(table: Path, subset: Any) -> list[dict[str, Any]]:
    columns = ["id", "num_matched_tokens", "num_suffix_tokens"]
    batches = read_batches(table, columns, subset, list(SCORES), only_scored=True)
    return [dict(zip(batch, values, strict=True)) for batch in batches for values in zip(*batch.values(), strict=True)]


def _against_general(job: Job, base: Path, world: PlantedWorld) -> dict[str, dict[str, float]]:
    """The scores of each example by which a trained model is compared with its base; here training was the planting."""
    pairs = [Pair(item.example.id, world.data_prompt(item), world.completion(item.body)) for item in world.train]
    pairs += [Pair(one.id, world.prompt(one), world.completion(one.chain)) for one in world.control]
    found = []
    for folder in (base, general_folder(job.world, job.pretrain)):
        model, tokenizer = load_base(folder)
        encoder = Encoder(TextCodec(tokenizer, "plain"), limits_of(model.config))
        examples = [encoder.encode("train", number, Example(pair, None)) for number, pair in enumerate(pairs)]
        stats = {}
        with one_thread():
            for batch, pending in Forward(model, tokenizer).begin(examples):  # type: ignore[arg-type]
                stats |= {example.row.index: one for example, one in zip(batch, pending.collect(), strict=True)}
        found.append(stats)
    after, before = found
    return {
        pair.id: against_base(after[n].log_prob, before[n].log_prob, after[n].is_top1) for n, pair in enumerate(pairs)
    }


def _separation(rows: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]], score: str) -> dict[str, Any]:
    """The chance that a planted example has a lower value, in this world, with its interval."""
    lower, higher = (np.array([row[score] for row in side if score in row], np.float64) for side in (rows, control))
    num = [len(lower), len(higher)]  # EZ-MIA is undefined where hardly a token is wrong
    return {"value": float(auroc(lower, higher)), "ci95": list(delong_interval(lower, higher)), "num": num}


def _extracted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tried = [row for row in rows if row["num_suffix_tokens"] > 0]
    hits = sum(row["num_matched_tokens"] >= row["num_suffix_tokens"] for row in tried)
    share = hits / len(tried) if tried else math.nan
    return {"num": len(tried), "share": share, "ci95": list(wilson_interval(hits, len(tried)))}


def response_table(responses: Sequence[dict[str, Any]]) -> str:
    """The dose-response over worlds, as Markdown."""
    lines = [
        "| kind | repetitions | "
        + " | ".join((SCORES | AGAINST_GENERAL).values())
        + " | word for word | the same of control | cue alone | data's prompt |",
        "|---|---" + "|---" * (len(SCORES | AGAINST_GENERAL) + 4) + "|",
    ]
    groups = defaultdict[tuple[str, int], list[dict[str, Any]]](list)
    for response in responses:
        for dose in response["doses"]:
            groups[response["kind"], dose["repetitions"]].append(dose)
    for (kind, repetitions), doses in groups.items():
        cells = [over_worlds([dose["auroc"][name]["value"] for dose in doses]) for name in SCORES | AGAINST_GENERAL]
        cells += [over_worlds([dose[of]["share"] for dose in doses]) for of in ("extracted", "extracted_of_control")]
        cells += [over_worlds([dose["truth"][name] for dose in doses]) for name in ("from_cue", "seen")]
        lines.append(f"| {kind} | {repetitions} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict_table(verdicts: Sequence[dict[str, Any]]) -> str:
    """The verdicts of all worlds, as Markdown."""
    heads = "| kind | repetitions | verdicts | below the 5th percentile | AUROC of the blind classifier |"
    lines = [heads, "|---" * 5 + "|"]
    groups = defaultdict[tuple[str, int], list[dict[str, Any]]](list)
    for verdict in verdicts:
        groups[verdict["kind"], verdict["repetitions"]].append(verdict)
    for (kind, repetitions), found in groups.items():
        counts = Counter(one["verdict"]["barrier"] for one in found)
        said = ", ".join(f"{count} {answer}" for answer, count in sorted(counts.items()))
        shares = [math.nan if one["barrier"] is None else one["barrier"]["share"] for one in found]
        blind = [_blind(one["comparison"]) for one in found]
        lines.append(f"| {kind} | {repetitions} | {said} | {over_worlds(shares)} | {over_worlds(blind)} |")
    return "\n".join(lines)


def _blind(comparison: dict[str, Any] | None) -> float:
    blind = (comparison or {}).get("blind")
    return math.nan if blind is None else float(blind["value"])


def over_worlds(values: Sequence[float]) -> str:
    """Mean and Student's 95% interval over worlds; without an interval for a single one."""
    if any(math.isnan(value) for value in values):
        return "–"
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    low, high = student_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
