from __future__ import annotations

from pathlib import Path

import torch

from analysis.results.load import load_pairs
from simreg_core.neural.compare import write_table


def test_analysis_reads_the_similarities_that_compare_writes(tmp_path: Path) -> None:
    similarities = {name: torch.rand(4) for name in ("features:/a/b.npy", "neural", "mine:f")}
    index = torch.arange(4)
    path = tmp_path / "pairs.parquet"
    write_table({"first": index, "second": index + 1, **similarities}, path)
    pairs = load_pairs(path)
    assert pairs.to_dict("list") == {name: v.tolist() for name, v in similarities.items()}
