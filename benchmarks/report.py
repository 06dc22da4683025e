"""A benchmark result as a table for people, as Markdown, as CSV, and in the README."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import captions, derived, figures, storage
from benchmarks.tables import summary, tables
from gender_edge import GenderEdgeError

START, END = "<!-- benchmark table: start -->", "<!-- benchmark table: end -->"


def text(result: dict[str, Any]) -> str:
    """Aligned tables for a terminal."""
    parts = ["\n".join(aligned(table)) for table in tables(result)]
    return "\n\n".join([*parts, captions.caption(result)])


def aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines of equally wide columns, the first of them flush left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = []
    for line in lines:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        rows.append("  ".join(cells).rstrip())
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    piped = ["\n".join(_piped(table)) for table in tables(result)]
    return "\n\n".join([*piped, captions.caption(result)]) + "\n"


def csv_text(result: dict[str, Any]) -> str:
    """One line per subject and batch size, figures unrounded, for a spreadsheet."""
    flat = [
        {
            **{k: variant.get(k) for k in ("name", "engine", "kind", "precision", "input_size")},
            **{k: variant.get(k) for k in ("parameters", "macs", "bytes", "error")},
            "accuracy": variant.get("accuracy", {}).get("value"),
            **{k: v for k, v in row.items() if not isinstance(v, dict)},
            "peak_mb": (row.get("resident_mb") or {}).get("peak"),
        }
        for variant in result["variants"]
        for row in variant.get("batches") or [{}]
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for line in flat for key in line)))
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _piped(table: list[tuple[str, ...]]) -> list[str]:
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in table)
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|---|" + "---:|" * (len(table[0]) - 1), *lines[1:]]


def for_readme(result: dict[str, Any], details: str) -> str:
    """What a README shows of a result, in Markdown, with a link to all its tables."""
    if not any(variant.get("batches") for variant in result["variants"]):
        return "Nothing was measured."
    return "\n".join([*_piped(summary(result)), "", captions.short(result, details)])


def update_readme(readme: Path, text: str) -> None:
    """Put what `for_readme` gave between the marks of a README."""
    page = readme.read_text()
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{readme}: has no {START} and {END}; put them where the table belongs")
    readme.write_text(pattern.sub(lambda _: f"{START}\n{text}\n{END}", page))


def main() -> int:
    """`python benchmarks/report.py RESULT.json --markdown --readme README.md --plot FILE`.

    With either of the first two all tables go to RESULT.md beside it, which the README names.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    try:
        result = storage.read(arguments.result)
        derived.update(result)  # a result of before may say less
    except (GenderEdgeError, LookupError, TypeError) as error:
        what = f"no result of benchmarks/run.py ({error})"
        print(f"report: {arguments.result}: {what}", file=sys.stderr)
        return 2
    details = arguments.result.with_suffix(".md")
    if arguments.markdown or arguments.readme:
        details.write_text(markdown(result))
    if arguments.readme:
        home = arguments.readme.resolve().parent
        update_readme(arguments.readme, for_readme(result, os.path.relpath(details, home)))
    if arguments.plot:
        figures.save_front(result, arguments.plot)
    print(text(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
