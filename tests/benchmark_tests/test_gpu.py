from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.pareto.__main__ import main as pareto
from analysis.poster.__main__ import main as poster
from analysis.results.load import load_results
from benchmarks.gpu.__main__ import STAGES
from benchmarks.gpu.results import read_results

ROOT = Path(__file__).resolve().parents[2]


def run(data: Path, out: Path, *options: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu", "--data", str(data), "--out", str(out)]
    return subprocess.run(
        [*command, "--quick", "--device", "cpu", *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout


@pytest.mark.long
def test_a_rehearsal_leaves_results_of_every_stage(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    first = 0  # no image occurs twice: held-out ones must not regularize
    for name, number in {
        "cifar10/train": 400,
        "cifar10/test": 80,
        "imagenet_sample/train": 20,
    }.items():
        images = [make_png(first + n, 32, 32) for n in range(number)]
        write_parquet(data / f"{name}.parquet", images, [n % 10 for n in range(number)])
        first += number
    printed = run(data, out, "--minutes", "8")
    text = (out / "results.md").read_text()
    assert text in printed
    results = read_results(out)
    assert [(r.stage, r.name, r.note) for r in results if r.status in ("failed", "stopped")] == []
    for name, stage in STAGES.items():
        own = [result for result in results if result.stage == name]
        assert own[-1].name == "whole stage"
        assert len(own) > 1
        assert f"### {stage.title}\n" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, rule, *rows = table.splitlines()
        assert rows
        assert {line.count(" | ") for line in (head, rule, *rows)} == {head.count(" | ")}
    names = {(r.stage, r.name) for r in results if r.status == "measured"}
    assert ("epoch", "CUDA graph, bf16") in names
    assert ("epoch", "plain style, TF32") in names
    assert ("trials", "small, M = 2, threads") in names
    assert ("attacks", "evaluation of a trial, with boundary") in names
    published = out / "published"
    assert list(load_results(published / "datasets").trials["trial"]) == [0, 1, 2]
    assert pareto([str(published / "datasets")]) == 0
    assert poster([str(published), "--out", str(tmp_path / "poster")]) == 0
    assert (tmp_path / "poster" / "4ii_spectra.png").exists()
    with tarfile.open(out / "tables.tar.gz") as archive:
        members = archive.getnames()
    assert "published/curves/space.yaml" in members
    assert [name for name in members if "checkpoints" in name or name.endswith(".pt")] == []
    # A second call finds all networks finished.
    before = sorted((path, path.stat().st_mtime_ns) for path in published.rglob("*.pt"))
    run(data, out, "--minutes", "3", "--stages", "published")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in published.rglob("*.pt"))
