from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.charts import csv_text as module
from analysis.charts.csv_text import csv_text, defused

FORMULAS = [
    *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "-", "--5"),
    *("\uff1d1", '=HYPERLINK("http://x";"y")', "-0.5.1", "+", "=a\rb,c"),
]
TEXTS = ["a=b", "a-1", "-0.5", "+3", "-1e-05", ".5", "-.5E+3", "", "'=1", "/data/x", "none", "12"]
TEMPLATE = Path(module.__file__).parents[1] / "report" / "templates" / "report.js.jinja"


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_texts(text: str) -> None:
    assert defused(text) == f"'{text}"
    table = pd.DataFrame({text: pd.Series([text], dtype="string"), "b": [text]})
    cells = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    assert cells == [[f"'{text}", "b"], [f"'{text}"] * 2]


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_stay(text: str) -> None:
    assert defused(text) == text


def test_numbers_stay_and_line_ends_are_quoted() -> None:
    table = pd.DataFrame(
        {
            "a": [-0.5, np.nan, -np.inf],
            "b": pd.array([-1, None, 2], dtype="Int64"),
            "c": ["x\ry", "p\r\nq", 's"t\n'],
            "d": pd.array([True, None, False], dtype="boolean"),
            "e": [None, -3, "-x"],
        }
    )
    lines = ["a,b,c,d,e", '-0.5,-1,"x\ry",True,', ',,"p\r\nq",,-3', '-inf,2,"s""t\n",False,\'-x']
    assert csv_text(table) == "\n".join(lines) + "\n"
    plain = table[["a", "b", "d"]]
    assert csv_text(plain) == plain.to_csv(index=False, lineterminator="\n")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_page_defuses_the_same_texts() -> None:
    source = TEMPLATE.read_text()
    script = "".join(
        re.findall(r"  const (?:isFormula|defused|quote) = .*?;\n(?=  const)", source, re.S)
    )
    asked = [*FORMULAS, *TEXTS, -0.5, None]
    script += (
        f"console.log(JSON.stringify({json.dumps(asked)}.map(v => String(quote(defused(v))))))"
    )
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found[-2:] == ["-0.5", ""]
    for text, cell in zip([*FORMULAS, *TEXTS], found, strict=False):
        read = next(csv.reader(io.StringIO(cell, newline="")), [""])
        assert read == [defused(text)]
        assert ("\r" in cell) <= cell.startswith('"')
