from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import Alarm
from ibft.objectives.alarms import alarm_note
from ibft.objectives.bottleneck.alarms import find_alarms
from ibft.objectives.bottleneck.forms import FORMS

# ../shared/METHOD.md, section 4: step, KL (nats per dimension), gradient ratio; alpha 0.2, 256 dimensions.
PUBLISHED_LOSS = [(0, 1033, 630), (10, 503, 362), (20, 70, 186), (30, 19.2, 2.1), (50, 6.8, 0.42)]


def row(step: int, **gauges: float | None) -> TrainingLog:
    return TrainingLog(step, {"loss": 1.0, "ib/alpha": 0.2} | {f"ib/{name}": value for name, value in gauges.items()})


def ratios(*values: float | None, first_step: int = 1) -> list[TrainingLog]:
    return [row(step, grad_ratio=value) for step, value in enumerate(values, start=first_step)]


def healthy(steps: range) -> list[TrainingLog]:
    return [
        row(step, grad_ratio=0.5 + 0.1 * math.sin(step), kl_per_token=30 + math.cos(step), active_units=180)
        for step in steps
    ]


def closed(steps: range) -> list[TrainingLog]:
    return [row(step, grad_ratio=0.001, kl_per_token=0.02, active_units=1) for step in steps]


def find(rows: list[TrainingLog], form: str = "paper", warmup_steps: int = 0) -> dict[str, Alarm]:
    alarms = find_alarms(rows, bottleneck_dim=256, form=FORMS[form], warmup_steps=warmup_steps)
    assert [alarm.kind for alarm in alarms] in (["overload", "collapse"], ["overload"], ["collapse"], [])
    return {alarm.kind: alarm for alarm in alarms}


def span(alarm: Alarm) -> tuple[int, int]:
    return alarm.first_step, alarm.last_step


def test_the_published_loss_on_smollm2_is_overload_at_first_and_not_yet_closed() -> None:
    log = [row(step, kl_per_token=256 * kl, active_units=256, grad_ratio=ratio) for step, kl, ratio in PUBLISHED_LOSS]
    alarms = find(log)
    assert alarms.keys() == {"overload"}
    assert span(alarms["overload"]) == (0, 20)
    message = alarms["overload"].message
    assert "all 3 logged steps from 0 to 20" in message
    assert "up to 630 times" in message
    assert "Remedy: form: controlled or corrected" in message
    # The same run once the head has zeroed the KL.
    alarms = find(log + closed(range(60, 100, 10)))
    assert span(alarms["overload"]) == (0, 20)
    assert span(alarms["collapse"]) == (60, 90)


def test_a_healthy_log_has_no_alarm() -> None:
    assert find(healthy(range(1, 200))) == {}
    assert find([]) == {}
    assert find([TrainingLog(step, {"loss": 1.0, "ce": 1.0}) for step in range(10)]) == {}


@pytest.mark.parametrize("values", list(itertools.product((9.9, 10.1), repeat=6)))
def test_overload_is_three_in_a_row(values: tuple[float, ...]) -> None:
    alarms = find(ratios(*values))
    text = "".join("x" if value > 10 else "." for value in values)  # an independent way to find the series
    assert ("overload" in alarms) == ("xxx" in text)
    if "xxx" in text:
        in_series = {i + j + 1 for i in range(4) for j in range(3) if text[i : i + 3] == "xxx"}
        assert span(alarms["overload"]) == (min(in_series), max(in_series))


def test_the_limits_themselves_are_no_alarm() -> None:
    assert find([row(step, grad_ratio=10.0) for step in range(5)]) == {}
    assert find([row(step, grad_ratio=0.01, kl_per_token=0.1, active_units=2.56) for step in range(5)]) == {}


@pytest.mark.parametrize(("values", "is_over"), [((20,), True), ((20, 30), True), ((20, 5), False), ((), False)])
def test_a_short_run_is_overloaded_where_all_of_it_is(values: tuple[float, ...], is_over: bool) -> None:
    assert ("overload" in find(ratios(*values))) is is_over


def test_a_short_run_is_not_called_collapsed() -> None:
    assert find(closed(range(1, 3))) == {}
    assert find(closed(range(1, 4))).keys() == {"collapse"}


def test_several_overloads_are_one_alarm_with_their_number() -> None:
    alarm = find(ratios(20, 20, 20, 1, 1, 20, 20, 700, 20, 1))["overload"]
    assert span(alarm) == (1, 9)
    assert "7 of 9 logged steps from 1 to 9, up to 700 times" in alarm.message


@pytest.mark.parametrize(
    ("gauge", "low", "said"),
    [
        ("active_units", 2.5, "2.5 of 256 dimensions are active"),
        ("kl_per_token", 0.09, "the KL is 0.09 nats per token"),
        ("grad_ratio", 0.0, "is 0 of the cross-entropy's"),
    ],
)
def test_each_sign_of_collapse_is_named_and_only_those_seen(gauge: str, low: float, said: str) -> None:
    fine = {"active_units": 100.0, "kl_per_token": 20.0, "grad_ratio": 0.5}
    log = [row(step, **fine | ({gauge: low} if step >= 7 else {})) for step in range(1, 11)]
    alarm = find(log)["collapse"]
    assert span(alarm) == (7, 10)
    assert said in alarm.message
    assert alarm.message.count("(alarm below") == 1
    assert ("posterior collapse" in alarm.message) == (gauge != "grad_ratio")


def test_a_collapse_that_passed_is_none() -> None:
    assert find(closed(range(1, 50)) + healthy(range(50, 51))) == {}


def test_missing_and_null_gauges_neither_make_nor_break_a_series() -> None:
    assert find([row(step, grad_ratio=None, kl_per_token=None, active_units=None) for step in range(9)]) == {}
    assert span(find(ratios(20, None, 20, None, 20, 1))["overload"]) == (1, 5)
    without = TrainingLog(2, {"eval_loss": 1.0})
    log = [*closed(range(1, 2)), without, *closed(range(3, 5)), without]
    assert span(find(log)["collapse"]) == (1, 4)
    assert find(ratios(20, None)) == {"overload": find(ratios(20, None))["overload"]}
    assert find(ratios(None, None)) == {}


def test_without_a_weight_there_is_no_alarm() -> None:
    for alpha in (0.0, None):
        log = [TrainingLog(r.step, r.metrics | {"ib/alpha": alpha}) for r in [*ratios(20, 20, 20), *closed(range(9))]]
        assert find(log) == {}


def test_warm_up_excuses_a_small_gradient_but_no_closed_bottleneck() -> None:
    log = [row(step, grad_ratio=0.001, kl_per_token=20.0, active_units=100) for step in range(1, 21)]
    assert find(log, warmup_steps=20) == {}
    assert find(log, warmup_steps=18) == {}
    assert span(find(log, warmup_steps=17)["collapse"]) == (18, 20)
    assert "the KL is" in find(closed(range(1, 21)), warmup_steps=20)["collapse"].message


def test_in_path_ends_with_nothing_replaced() -> None:
    rising = [row(step, replaced=0.3, grad_ratio=1.0, kl_per_token=20.0) for step in range(9)]
    ended = [row(step, replaced=0.0, grad_ratio=0.0, kl_per_token=0.0) for step in range(9, 20)]
    assert find(rising + ended, form="in_path") == {}
    shut = [row(step, replaced=0.3, grad_ratio=0.5, kl_per_token=0.0) for step in range(9, 20)]
    assert span(find(rising + shut + ended, form="in_path")["collapse"]) == (9, 19)


def test_a_resumed_log_reads_like_one_that_was_never_cut(tmp_path: Path) -> None:
    whole = ratios(*[20] * 5, *[1] * 5) + closed(range(11, 16))
    write_rows(tmp_path / "log.jsonl", whole)
    assert find(list(read_rows(tmp_path / "log.jsonl", TrainingLog))) == find(whole)
    # A kill leaves the bell with the rows since the checkpoint alone: what was before is not made up.
    assert find(whole[5:]).keys() == {"collapse"}


@pytest.mark.parametrize("form", ["paper", "corrected", "controlled", "in_path", "entropy"])
def test_the_remedy_is_not_the_form_that_one_has(form: str) -> None:
    log = ratios(*[20] * 3, *[1] * 3)
    weak = [row(step, grad_ratio=0.001) for step in range(7, 10)]
    for alarm in [*find(log + weak, form).values(), *find(log + closed(range(7, 10)), form).values()]:
        remedy = alarm.message.partition("Remedy: ")[2]
        assert remedy.endswith(".")
        assert len(remedy) > 10
        assert f"form: {form}" not in remedy


def test_notes_are_one_line() -> None:
    alarms = find(ratios(*[20] * 3) + closed(range(4, 9)))
    notes = [alarm_note("ib", alarm) for alarm in alarms.values()]
    assert notes[0].startswith("ib: overload from step 1 to 3")
    assert notes[1].startswith("ib: collapse from step 4 to 8")
