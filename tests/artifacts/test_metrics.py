from ibft.artifacts.metrics import Curve, Metrics, curves, summarize
from ibft.statistics.pass_at_k import Count


def test_every_m_is_there_and_too_few_samples_undo_only_the_larger_k() -> None:
    metrics = summarize([Count(4, 2), Count(3, 3)], [4, 1, 3], num_resamples=200, seed=0)
    assert list(metrics) == [
        "pass@1", "pass@3", "pass@3^(2)", "pass@3^(3)", "pass@4", "pass@4^(2)", "pass@4^(3)", "pass@4^(4)",
    ]  # fmt: skip
    assert metrics["pass@1"].value == 0.75
    assert metrics["pass@3^(3)"].value == 0.5
    assert metrics["pass@1"].ci95 == (0.5, 1.0)
    assert metrics["pass@4"].value is None
    assert "1 of 2 problems" in (metrics["pass@4"].reason or "")


def test_a_reason_from_outside_undoes_all() -> None:
    metrics = summarize([Count(4, 2)], [1, 2], num_resamples=10, seed=0, reason="2 samples could not be judged")
    assert {metric.reason for metric in metrics.values()} == {"2 samples could not be judged"}


def test_curves_are_the_same_figures_as_arrays() -> None:
    metrics = summarize([Count(4, 2), Count(3, 3)], [3, 1, 4], num_resamples=200, seed=0)
    found = curves(metrics, [3, 1, 4])
    assert list(found) == ["1", "3", "4"]
    points = [metrics[name] for name in ("pass@3", "pass@3^(2)", "pass@3^(3)")]
    assert found["3"].values == tuple(point.value for point in points)
    assert found["3"].values == (1.0, 0.75, 0.5)
    assert (found["3"].ci95_low, found["3"].ci95_high) == tuple(
        zip(*(point.ci95 or () for point in points), strict=True)
    )
    assert found["4"] == Curve(None, None, None, metrics["pass@4"].reason)


def test_file_round_trip() -> None:
    figures = summarize([Count(4, 2), Count(3, 3)], [1, 4], num_resamples=10, seed=0)
    metrics = Metrics(
        num_problems=2,
        num_samples=7,
        metrics=figures,
        curves=curves(figures, [1, 4]),
        statuses={"passed": 5, "failed": 2},
        problems="humaneval",
        sandbox="process",
        tool_versions={},
        k=(1, 4),
        seed=0,
        bootstrap_resamples=10,
    )
    assert Metrics.from_json(metrics.to_json()) == metrics
    assert b'"value": null' in metrics.to_json()
    assert b'"ci95": [ 0.5, 1.0 ]' in metrics.to_json()
    assert b'"ci95_low": [ 0.5 ]' in metrics.to_json()
