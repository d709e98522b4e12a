from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import ibft.pages
from ibft.pages.charts import (
    MARKER_GLYPHS,
    THEME_CSS,
    Bar,
    Curve,
    Dot,
    Drawing,
    draw_against,
    draw_curves,
    draw_densities,
    draw_histogram,
    draw_intervals,
    draw_named_intervals,
)
from ibft.pages.charts.density import kernel_density
from ibft.pages.charts.style import legend_columns


def all_charts() -> list[Drawing]:
    styles = {"base": 0, "ft": 1}
    return [
        draw_densities({"train": [1.0, 2.0, 2.5], "control": [2.0, 4.0]}, "Min-20% Prob"),
        draw_curves({"ft": Curve([1, 2, 3], [3.0, 2.0, 1.5])}, "step", "loss", whole_x=True, styles=styles),
        draw_curves({"ft": Curve([1, 2], [3, 2], [(1, 4), (1, 3)])}, "m", "Pass (%)", is_percentage=True),
        draw_curves({"ft": Curve([1, 2, 3], [0, 1e-5, 500])}, "step", "ratio", is_log=True, limits=(10, 0.01)),
        draw_curves({"ft": Curve([1, 2], [3, 2])}, "step", "KL", targets={"ft": Curve([2], [1])}, styles=styles),
        draw_intervals({"Pass@1": {"base": Dot(0, (0, 0)), "ft": Dot(40, None)}}, "%", styles=styles),
        draw_named_intervals({"base": Dot(0, (0, 0)), "ft": Dot(40, None)}, "Pass@1 (%)", styles=styles),
        draw_histogram([Bar(61, 70, 3), Bar(71, 80, 1), Bar(101, 110, 2, True)], "tokens", "Examples", beyond="long"),
        draw_histogram([Bar(1, 1, 4), Bar(2, 10, 3), Bar(11, 100, 1)], "tokens", "Examples"),
        draw_densities({"train": [-1.0, 0.5, 2.5]}, "Min-20%++", medians={"train": -0.25}, threshold=-0.5),
        draw_against(
            {"NLL": Dot(0.6, (0.5, 0.7)), "Zlib": Dot(0.5, None)},
            "AUROC",
            groups={"no": ["Zlib"], "yes": ["NLL"]},
            reference=("blind", Dot(0.55, (0.5, 0.6))),
            neutral=0.5,
        ),
    ]


def test_charts_are_well_formed_labelled_and_equal_each_time() -> None:
    charts = all_charts()
    assert [chart.svg for chart in charts] == [chart.svg for chart in all_charts()]
    for chart in charts:
        root = ElementTree.fromstring(chart.svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert root.find(".//{*}metadata") is None


def test_a_themed_chart_has_no_color_of_its_own() -> None:
    for chart in all_charts():
        assert re.search(r"(fill|stroke): #[0-9a-f]{6}", chart.svg)
        assert not re.search(r"#[0-9a-f]{6}\b", chart.themed_svg)


def test_a_pdf_has_its_font_embedded_and_neither_date_nor_pixels() -> None:
    for chart, again in zip(all_charts(), all_charts(), strict=True):
        assert chart.svg  # as on a page: the other form first
        pdf = chart.pdf
        assert pdf == again.pdf
        assert pdf.startswith(b"%PDF-")
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert b"CreationDate" not in pdf
        assert b"/Subtype /Image" not in pdf


def test_series_differ_by_line_style_and_marker_too() -> None:
    names = "abcdefghij"
    curves = {name: Curve([1, 2], [1, index]) for index, name in enumerate(names)}
    chart = draw_curves(curves, "step", "loss")
    assert len(set(re.findall(r"stroke-dasharray: [^;\"]*", chart.svg))) == 9  # and one solid line
    colors = set(re.findall(r"--series-\d+", chart.themed_svg))
    assert len(colors) == len(names) == len(set(MARKER_GLYPHS))
    drawn = [draw_curves({"x": Curve([1], [1])}, "step", "loss", styles={"x": index}) for index in range(len(names))]
    shapes = {re.findall(r'<defs>\s*<path id="[^"]*" d="([^"]*)"', one.svg)[-1] for one in drawn}
    assert len(shapes) == len(names)
    svg = draw_intervals({"Pass@1": {"a": Dot(1, None), "b": Dot(2, None)}}, "%", styles={"a": 0, "b": 1}).svg
    assert len(set(re.findall(r'xlink:href="#([^"]*)"', svg))) >= 3  # a tick and two different markers


@pytest.mark.parametrize("values", [[], [1.5], [0.0, 0.0], [3.0] * 10, list(np.linspace(0, 5, 5000))])
def test_densities_of_degenerate_and_large_data_are_drawn(values: list[float]) -> None:
    ElementTree.fromstring(draw_densities({"train": values}, "x").svg)


def test_densities_of_negative_numbers_are_not_reflected_at_zero() -> None:
    values = np.random.default_rng(0).normal(-2, 1, 5000)
    grid = np.linspace(-8, 4, 1000)
    density = kernel_density(values, grid, is_bounded=False)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=0.01)
    assert density == pytest.approx(np.exp(-((grid + 2) ** 2) / 2) / np.sqrt(2 * np.pi), abs=0.03)
    numbers = re.findall(r">([−\d.]+)</text>", draw_densities({"train": list(values)}, "x").svg)
    assert {"−4", "−2", "0"} <= set(numbers)
    assert "−8" not in numbers
    positive = re.findall(r">([−\d.]+)</text>", draw_densities({"train": list(values + 9)}, "x").svg)
    assert positive[0] in ("0", "0.0")


@pytest.mark.parametrize("outlier", [1e3, 1e6])
def test_an_outlier_does_not_change_the_density_of_the_rest(outlier: float) -> None:
    values = np.random.default_rng(0).normal(5, 1, 2000)
    grid = np.linspace(0, 10, 200)
    expected = kernel_density(values, grid)
    values[0] = outlier
    assert kernel_density(values, grid) == pytest.approx(expected, abs=0.01)


def test_a_sample_is_drawn_with_the_median_of_what_it_is_a_sample_of() -> None:
    series = {"train": [1.0, 2.0, 9.0], "control": [3.0]}
    assert "train (median 2.00); control (median 3.00)" in draw_densities(series, "x").description
    chart = draw_densities(series, "x", medians={"train": -2.5, "other": 1}, threshold=-1.25)
    assert "train (median −2.50); control (median 3.00); threshold -1.25" in chart.description


def test_a_threshold_outside_the_data_is_on_the_axis() -> None:
    chart = draw_densities({"train": [5.0, 6.0, 7.0]}, "x", threshold=12.0)
    assert ">12</text>" in chart.svg


def test_dots_against_a_reference_have_their_group_and_their_order() -> None:
    dots = {"first": Dot(0.6, None), "second": Dot(0.5, None), "third": Dot(0.7, None)}
    groups = {"no": ["second"], "yes": ["third", "first"], "empty": []}
    chart = draw_against(dots, "AUROC", groups=groups, reference=("blind", Dot(0.55, (0.4, 0.6))), neutral=0.5)
    root = ElementTree.fromstring(chart.svg)
    texts = [(text.text or "", float(text.attrib["y"])) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    heights = dict(texts)
    assert heights["first"] < heights["second"] < heights["third"]
    assert {"no", "yes", "blind"} <= set(heights)
    assert "empty" not in heights
    assert chart.description == "AUROC: blind 0.550, first 0.600, second 0.500, third 0.700"
    alone = draw_against(dots, "AUROC", groups={}, reference=None, neutral=0.5)
    assert alone.description == "AUROC: first 0.600, second 0.500, third 0.700"
    assert "--series-3" in chart.themed_svg
    assert "--series-3" not in alone.themed_svg


@pytest.mark.parametrize("size", [5, 100, 20_000])
def test_the_density_integrates_to_one_and_follows_the_exact_kernel_sum(size: int) -> None:
    values = np.random.default_rng(0).gamma(2, 1, size)
    grid = np.linspace(0, 30, 3000)
    density = kernel_density(values, grid)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=0.01)
    if size == 100:
        iqr = np.subtract(*np.percentile(values, [75, 25])) / 1.349
        width = 0.9 * min(np.std(values), iqr) * size**-0.2
        exact = sum(
            np.exp(-0.5 * ((grid - center) / width) ** 2) + np.exp(-0.5 * ((grid + center) / width) ** 2)
            for center in values
        ) / (size * width * np.sqrt(2 * np.pi))
        assert density == pytest.approx(exact, abs=0.02 * exact.max())


def test_many_series_with_long_names_keep_the_legend_inside() -> None:
    names = [f"ib-alpha0.1-beta0.01-seed{seed}" for seed in range(8)]
    svg = draw_curves({name: Curve([1, 2], [1, 2]) for name in names}, "step", "loss").svg
    root = ElementTree.fromstring(svg)
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    places = {text.text: text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    for name in names:
        x, y = float(places[name].attrib["x"]), float(places[name].attrib["y"])
        assert 0 < x < width - 6 * len(name)
        assert 0 < y < height / 2


def test_a_log_axis_has_plain_numbers_and_its_limits_right_across() -> None:
    curve = Curve([1, 2, 3, 4], [0.0, 0.00002, 3, 4e7])
    svg = draw_curves({"ib": curve}, "step", "ratio", is_log=True, limits=(10, 0.01)).svg
    root = ElementTree.fromstring(svg)
    numbers = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    ticks = [float(text.replace(",", "")) for text in numbers if re.fullmatch(r"[\d.,]+", text)]
    assert max(ticks) > 1000
    assert f"{max(ticks):,.0f}" in numbers
    assert min(ticks) < 0.001
    assert not any("e" in text for text in numbers if text[:1].isdigit())
    without = draw_curves({"ib": curve}, "step", "ratio", is_log=True).svg
    assert svg.count('clip-path="url(') == without.count('clip-path="url(') + 2


def test_a_limit_outside_the_data_is_shown() -> None:
    svg = draw_curves({"ib": Curve([1, 2], [0.5, 2])}, "step", "ratio", is_log=True, limits=(10, 0.01)).svg
    assert {">10<", ">0.01<"} <= set(re.findall(r">[\d.]+<", svg))


def test_a_target_is_thin_and_in_the_color_of_its_series() -> None:
    curves = {name: Curve([1, 2], [30, 31]) for name in ("ib", "second")}
    svg = draw_curves(
        curves, "step", "KL", styles={"ib": 2, "second": 3}, targets={"second": Curve([1, 2], [30, 30])}
    ).svg
    lines = re.findall(r'style="fill: none; ([^"]*)stroke: (#\w+)(?:; stroke-width: ([\d.]+))?', svg)
    thin = [color for _, color, width in lines if width == "0.8"]
    of_series = [color for dashes, color, width in lines if width == "1.8"]
    assert of_series[1] in thin
    assert of_series[0] not in thin


@pytest.mark.parametrize("number", [1, 4, 5, 10])
def test_the_legend_is_as_wide_as_its_names_need(number: int) -> None:
    lengths = [4, 2, 2, 13, 3, 5, 4, 4, 3, 3][:number]
    columns = legend_columns(lengths)

    def fits(candidate: int) -> bool:
        # As matplotlib fills them: the first columns are one longer.
        parts = np.array_split(lengths, candidate)
        return sum(max(part) + 6 for part in parts) <= 46

    assert fits(columns)
    assert not any(fits(more) for more in range(columns + 1, number + 1))
    assert legend_columns([60]) == 1
    assert legend_columns([60, 60]) == 1


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_colors_have_enough_contrast_in_both_modes(mode: int) -> None:
    """WCAG 2.2: 4.5:1 for text (1.4.3), 3:1 for graphics (1.4.11)."""
    template = (Path(ibft.pages.__file__).parent / "page.html").read_text(encoding="utf-8")
    backgrounds = [re.findall(rf"--{name}: (#\w{{6}})", template)[mode] for name in ("page", "panel")]
    colors = {
        name: found[mode]
        for name in ["ink", "muted", *(f"series-{i}" for i in range(1, 11))]
        if (found := re.findall(rf"--{name}:(#\w{{6}})", THEME_CSS))
    }
    text = {name: re.findall(rf"--{name}: (#\w{{6}})", template)[mode] for name in ("link", "good", "bad")}
    assert len(set(colors.values())) == 12
    for background in backgrounds:
        for name, color in {**colors, **text}.items():
            assert contrast(color, background) >= (3 if name.startswith("series") else 4.5), (name, background)


@pytest.mark.parametrize("mode", [0, 1])
def test_tokens_are_readable_on_every_color_of_the_heat_map(mode: int) -> None:
    template = (Path(ibft.pages.__file__).parent / "audit.html").read_text(encoding="utf-8")
    ink = re.findall(r"--ink:(#\w{6})", THEME_CSS)[mode]
    colors = [re.findall(rf"--p{number}: (#\w{{6}})", template)[mode] for number in range(5)]
    assert len(set(colors)) == 5
    assert all(contrast(ink, color) >= 4.5 for color in colors)
    lightness = [luminance(color) for color in colors[1:]]
    assert lightness == sorted(lightness, reverse=mode == 0)


def test_a_histogram_has_a_bar_for_each_bin_and_names_what_is_beyond_the_limit() -> None:
    bars = [Bar(61, 70, 3), Bar(71, 80, 0), Bar(81, 90, 1), Bar(101, 110, 2000, True)]
    drawing = draw_histogram(bars, "tokens", "Examples", beyond="left out")
    assert drawing.description == "Examples by tokens: 61 to 70: 3; 81 to 90: 1; over 100: 2,000"
    assert "left out" in drawing.svg
    assert "left out" not in draw_histogram(bars[:3], "tokens", "Examples", beyond="left out").svg
    axes = drawing._figure.axes[0]
    assert [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches] == [
        (60.5, 10, 3),
        (70.5, 10, 0),
        (80.5, 10, 1),
        (100.5, 10, 2000),
    ]
    assert axes.get_xscale() == "linear"


def test_a_histogram_of_one_number_names_it_once_and_growing_bins_have_a_logarithmic_axis() -> None:
    svg = draw_histogram([Bar(69, 69, 40)], "tokens", "Examples").svg
    assert len(re.findall(r">69<", svg)) == 1
    growing = draw_histogram([Bar(51, 70, 4), Bar(71, 100, 3), Bar(101, 1000, 1)], "tokens", "Examples")
    assert growing._figure.axes[0].get_xscale() == "log"
    assert ">1,000<" in growing.svg
