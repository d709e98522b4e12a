from pathlib import Path

import msgspec
import numpy as np

from ibft.artifacts.scan import Densities
from ibft.findings.densities import write_densities


def written(folder: Path, **series: np.ndarray) -> Densities:
    write_densities(folder, "min_k_prob_20", series, seed=3)
    return msgspec.json.decode((folder / "densities.json").read_bytes(), type=Densities)


def test_few_values_are_all_there_in_their_order(tmp_path: Path) -> None:
    found = written(tmp_path, train=np.array([3.0, 1.0, 2.0]), control=np.array([]))
    assert found.series == {"train": [3.0, 1.0, 2.0], "control": []}
    assert found.score == "min_k_prob_20"
    assert found.label == "Min-20% Prob (nats per token)"


def test_values_that_are_none_are_left_out(tmp_path: Path) -> None:
    assert written(tmp_path, train=np.array([1.0, np.nan, np.inf, 2.0])).series["train"] == [1.0, 2.0]


def test_of_many_values_a_seeded_draw_is_kept(tmp_path: Path) -> None:
    many = np.random.default_rng(0).normal(size=50_000)
    drawn = written(tmp_path, train=many).series["train"]
    assert len(drawn) == len(set(drawn)) == 2000
    assert set(drawn) <= set(many.tolist())
    assert abs(np.median(drawn)) < 0.1
    assert drawn == written(tmp_path, train=many).series["train"]
    write_densities(tmp_path, "min_k_prob_20", {"train": many}, seed=4)
    assert drawn != msgspec.json.decode((tmp_path / "densities.json").read_bytes(), type=Densities).series["train"]
