from __future__ import annotations

import csv
import json
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import captions, figures, report, tables
from gender_edge import zoo


def test_tables_and_plot(outputs: Path, result: dict[str, Any]) -> None:
    markdown = (outputs / "a.md").read_text()
    assert markdown.count("\n| ") >= 4 and "(recorded)" in markdown
    assert (outputs / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert zoo.default() in report.text(result)
    with (outputs / "a.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["name"], line["batch"]) for line in lines] == [
        (v["name"], str(row["batch"])) for v in result["variants"] for row in v["batches"]
    ]


def test_the_worst_judged_people_stand_beside_the_sets() -> None:
    def group(name: str, value: float, men: int = 30) -> dict[str, Any]:
        share = {"value": value, "low": 0.5, "high": 0.9, "n": 60}
        rights = {"female_right": {"n": 30}, "male_right": {"n": men}}
        return {"group": name, "balanced_accuracy": share, **rights}

    few = group("adults, Other", 0.5, men=1)
    people = [group("age 13 to 19", 0.7), group("age 60+", 0.85), few]
    evaluation = {"a": {"groups": people}, "b": {"groups": [group("adults, Asian", 0.84)]}, "c": {}}
    sets = {name: {"value": 0.9, "low": 0.8, "high": 0.95} for name in "abc"}
    row = {"name": "x", "engine": "e", "accuracy": {"sets": sets, "measured": True}}
    variants = [{**row, "evaluation": evaluation}, {**row, "name": "y"}]
    head, first, second = tables.set_rows({"variants": variants})
    assert head[-2:] == ("worst group", "worst adults")
    assert first[-2:] == (
        "70.0 (50.0-90.0): age 13 to 19, a",
        "84.0 (50.0-90.0): adults, Asian, b",
    )
    assert second[-2:] == ("-", "-")


def test_page_needs_nothing_else(outputs: Path) -> None:
    """Every tag is closed, every plot is in it, nothing is fetched."""
    page = (outputs / "a.html").read_text()
    seen: list[tuple[str, dict[str, Any]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            seen.append((tag, dict(attributes)))

    Reader().feed(page)
    tags = [tag for tag, _ in seen]
    sets = zoo.entry(zoo.default()).evaluation["sets"].values()
    drawn = len(figures.AXES) + len(sets) + sum(bool(own["groups"]) for own in sets)
    assert tags.count("svg") == drawn > 6
    assert page.count("<svg") == page.count("</svg>")
    assert page.count("<table>") == page.count("</table>") >= 2
    assert not {"script", "link", "img"} & set(tags)
    names = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(names) == len(set(names))


def test_pareto_front() -> None:
    """The slow and good, the fast and good; not what either beats."""
    points = [(2.0, 90.0), (3.0, 89.0), (4.0, 95.0), (1.0, 90.0)]
    assert figures.pareto(points) == [(1.0, 90.0), (4.0, 95.0)]


def test_names_of_near_points_do_not_cover_each_other(result: dict[str, Any]) -> None:
    from matplotlib.text import Text

    result = deepcopy(result)
    one, *_ = result["variants"]
    for number in range(6):
        other = deepcopy(one)
        other["name"] = f"neighbour{number}_int8"
        other["batches"][0]["p50_ms"] *= 1 + number / 50
        result["variants"].append(other)
    figure = figures.front(result, "latency", [one["engine"]])
    (panel,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in panel.texts]  # without the lines to them
    assert len(boxes) == len(result["variants"])
    for number, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:number])


def test_readme_table_is_replaced(tmp_path: Path, result: dict[str, Any]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.update_readme(readme, report.for_readme(result, "results/all.md"))
        page = readme.read_text()
        assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
        assert page.count("| variant | balanced accuracy, % |") == 1 and "(results/all.md)" in page
    broken = {"name": "none.onnx", "engine": "onnxruntime", "error": "no such file"}
    broken |= {"precision": "int8"}
    led = report.for_readme({**result, "variants": [broken, *result["variants"]]}, "all.md")
    assert result["variants"][0]["backend"] in led
    assert report.for_readme({**result, "variants": [broken]}, "all.md") == "Nothing was measured."
    readme.write_text("nothing")
    with pytest.raises(SystemExit, match="has no"):
        report.update_readme(readme, report.for_readme(result, "results/all.md"))


NO_ROWS = json.dumps({"machine": {}, "settings": {}, "variants": [{}]})


@pytest.mark.parametrize("content", [None, "text", "[]", "{}", NO_ROWS])
def test_a_file_that_is_no_result_is_told(
    content: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "a.json")])
    assert report.main() == 2
    assert "no result of benchmarks/run.py" in capsys.readouterr().err


def test_summary_has_one_line_per_network(result: dict[str, Any]) -> None:
    first = result["variants"][0]
    engine, name = first["engine"], first["name"].rpartition("_")[0]
    twin = {**deepcopy(first), "name": f"{name}_fp32", "precision": "fp32"}
    alone = {**deepcopy(first), "name": "alone_fp32", "precision": "fp32"}
    alone["accuracy"]["value"] = 0.1
    elsewhere = {**deepcopy(first), "name": "elsewhere_int8", "engine": "another"}
    broken = {"name": "broken_int8", "engine": engine, "precision": "int8", "error": "no such"}
    both = [*result["variants"], twin, alone, elsewhere, broken]
    for variants in (both, [first, *both[::-1]]):  # whichever of twins comes first
        head, *lines = tables.summary({**result, "variants": variants})
        shown = [line[0].removesuffix(" (default)") for line in lines]
        own = {v["name"] for v in result["variants"] if v["engine"] == engine}
        assert set(shown) == own | {"alone_fp32", "broken_int8"} and len(shown) == len(set(shown))
        assert shown[-2:] == ["alone_fp32", "broken_int8"], "the most accurate first"
        cells = dict(zip(head, lines[shown.index(first["name"])]))
        least, most = first["batches"][0], first["batches"][-1]
        assert cells[f"ms, batch {least['batch']}"].startswith(f"{least['p50_ms']:.2f}")
        assert cells[f"faces/s, batch {most['batch']}"].startswith(f"{most['faces_per_s']:.0f}")
        assert cells[f"peak MB, batch {most['batch']}"] == f"{most['resident_mb']['peak']:.0f}"
        assert lines[-1][-1] == "failed"
    assert tables.summary({"variants": [broken]}) == []


def test_bars_below_a_half_are_seen(result: dict[str, Any]) -> None:
    """And more panels than fit side by side go below each other."""
    sets = deepcopy(result["variants"][0]["evaluation"])
    name = next(name for name, own in sets.items() if own["groups"])
    sets[name]["groups"][0]["female_right"] = {"value": 0.1, "low": 0.05, "high": 0.2, "n": 10}
    figure = figures.groups({f"subject {n}": sets for n in range(6)}, name)
    assert figure.axes[0].get_xlim()[0] <= 5
    assert len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) == 2


def test_reasons_stay_on_their_line() -> None:
    row = {"name": "a", "engine": "b", "error": "no\nsuch | thing"}
    (cells,) = tables.rows({"variants": [row]})
    assert cells[-1] == "no such | thing"
    assert "no such \\| thing |" in report._piped([tables.HEAD, cells])[-1]


def test_unsteady_rows_are_marked(result: dict[str, Any]) -> None:
    result = deepcopy(result)
    for variant in result["variants"]:
        for row in variant["batches"]:
            row["interval"]["p50_ms"] = [row["p50_ms"]] * 2
    assert "*" not in "".join(cells[3] for cells in tables.rows(result))
    assert "marked *" not in captions.caption(result)
    row = result["variants"][0]["batches"][0]
    row["interval"]["p50_ms"] = [row["p50_ms"], 1.2 * row["p50_ms"]]
    assert [cells[3].endswith("*") for cells in tables.rows(result)] == [True, False, False, False]
    assert "in 1 of 4 rows, marked *" in captions.caption(result)
