"""A benchmark result as one self-contained HTML page: tables, and plots as inline SVG."""

from __future__ import annotations

import io
import itertools
import re
from html import escape
from typing import Any

from benchmarks import captions, figures, tables

_drawings = itertools.count()
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
       color: #1a202c; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block;
        overflow-x: auto; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid #e2e8f0; text-align: right;
         white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def html(result: dict[str, Any]) -> str:
    """The whole page.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    figures.need_matplotlib()
    measured = [v for v in result["variants"] if v.get("batches")]
    title = f"Face classifiers on {figures.computed_on(result, measured)}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(captions.caption(result))}</p>"]
    parts += [_table(table) for table in tables.tables(result)]
    variants = figures.shown(result)
    if variants:
        engines = sorted({v["engine"] for v in variants})
        for axis in figures.AXES:
            parts += [f"<h2>Accuracy and {axis}</h2>", _svg(figures.front(result, axis, engines))]
    parts += _judged(result)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _judged(result: dict[str, Any]) -> list[str]:
    """Groups, risk and calibration, set by set: of each name on the first engine that judged it,
    because engines differ by a rounding.
    """
    variants = {v["name"]: v for v in reversed(result["variants"]) if v.get("evaluation")}
    judged = {tables.judged_as(v): v["evaluation"] for v in reversed(variants.values())}
    parts = []
    for dataset in dict.fromkeys(name for sets in judged.values() for name in sets):
        parts.append(f"<h2>{escape(dataset)}</h2>")
        parts.append(_svg(figures.curves(judged, dataset)))
        bars = figures.groups(judged, dataset)
        if bars is not None:
            parts.append(_svg(bars))
    if parts:
        parts.append(
            "<p>Apparent gender: binary labels of data sets, not identity. Bars carry 95 % Wilson "
            "intervals.</p>"
        )
    return parts


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{escape(c)}</th>' for c in rows[0])}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows[1:]]
    return f"<table>{''.join(lines)}</table>"


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg")
    # Without the XML head, and with names that no other picture on the page uses.
    drawing = re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)
    number = next(_drawings)
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{number}-", drawing)
