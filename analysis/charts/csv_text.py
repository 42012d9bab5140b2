"""Tables as CSV that spreadsheets show and never calculate.

A spreadsheet takes a text that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, which can
run programs and send data away. Such texts get an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pandas as pd

# Spreadsheets take full-width signs for the usual ones and skip blanks.
_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, with a line of names."""
    stream = io.StringIO(newline="")
    texts = table.rename(columns=defused)
    for place, dtype in enumerate(texts.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype):
            cells = texts.iloc[:, place].map(defused, na_action="ignore")
            texts.isetitem(place, cells.array)
    # "\r\n" makes the writer quote both characters.
    texts.to_csv(stream, index=False, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
    return _plain_ends(stream.getvalue())


def defused(value: Any) -> Any:
    """A text with an apostrophe in front if it would be a formula; other values as they are."""
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def _plain_ends(text: str) -> str:
    """End lines with LF only; line ends inside quotes stay."""
    parts = text.split('"')  # every second part is quoted
    return '"'.join(p.replace("\r\n", "\n") if n % 2 == 0 else p for n, p in enumerate(parts))
