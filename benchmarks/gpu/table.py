"""The Markdown of all results, for ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.results import Result, read_results
from benchmarks.timing import spread
from simreg_core.storage.atomic import write_text


def write_table(folder: Path, conditions: str, command: str, titles: Mapping[str, str]) -> Path:
    """Write ``results.md`` from ``results.jsonl``.

    Args:
        folder: Folder of both files.
        conditions: Device and versions.
        command: The command of these results.
        titles: Title of every stage, in order.
    """
    results = read_results(folder)
    parts = [
        f"```shell\n{command}\n```",
        f"{conditions}. Median [minimum, maximum] of n measurements.",
    ]
    for stage, title in titles.items():
        rows = [result for result in results if result.stage == stage]
        parts += [f"### {title}", *_tables(rows)]
    path = folder / "results.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _tables(rows: Sequence[Result]) -> list[str]:
    """One table for each set of columns, then the results without values as a list."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for row in rows:
        groups.setdefault(tuple(row.values), []).append(row)
    others = groups.pop((), [])
    unremarkable = {
        status: [row for row in others if row.status == status and not row.note]
        for status in ("passed", "skipped")
    }
    listed = [
        f"* {status}: {len(found)} (names in results.jsonl)"
        for status, found in unremarkable.items()
        if found
    ]
    listed += [_item(row) for row in others if row not in unremarkable.get(row.status, [])]
    tables = [_table(group) for group in groups.values()]
    return [*tables, *(["\n".join(listed)] if listed else [])] or ["No results."]


def _item(row: Result) -> str:
    return f"* {row.name}: {row.status}" + (f", {row.note}" if row.note else "")


def _table(rows: Sequence[Result]) -> str:
    """Rows with the same columns; n is the largest number of values."""
    columns = list(rows[0].values)
    lines = [["measurement", *columns, "n", "note"], ["---"] * (len(columns) + 3)]
    for row in rows:
        cells = [_cell(row.values[name]) for name in columns]
        lines.append([row.name, *cells, str(max(map(len, row.values.values()))), row.note])
    return "\n".join(_line(cells) for cells in lines)


def _cell(values: Sequence[float]) -> str:
    return str(spread(values)) if len(values) > 1 else f"{values[0]:.3g}"


def _line(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
