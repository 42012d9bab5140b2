"""An exported trial, and results that a test may damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.networks.checkpoint import save_weights
from simreg_core.results.tables import ResultStore
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import TrialResult, run_experiment
from tests.tuner_tests.spaces import Run, make_space
from tuner.execution.records import trial_record
from tuner.export.__main__ import main

ROOT = Path(__file__).parents[3]
FILES = ["README.md", "config.yaml", "metrics.json", "model.safetensors"]
PARAMS = {"regularizer.threshold": 0.3, "regularizer.alpha": 0.1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A folder of results: trial 2 complete, 3 complete and worse, 4 failed, 5 pruned."""
    folder = tmp_path_factory.mktemp("results") / "tiny"
    folder.mkdir()
    config = make_space(folder).trial_config(PARAMS)
    cache = BaselineCache(folder / "baselines", load_task(config.task), torch.device("cpu"))
    result = run_experiment(config, cache)
    row = trial_record(result, 2)["columns"]
    row |= {"study": "tiny", "status": "complete", "trial": 2, "num_seeds": 1}
    score = row["validation.tradeoff_score"]
    store = ResultStore(folder)
    store.create()
    store.write_trial("trials", 2, [row])
    store.write_trial("trials", 3, [{**row, "trial": 3, "validation.tradeoff_score": score - 0.1}])
    failed = {"study": "tiny", "trial": 4, "status": "failed", "reason": "NonFiniteLossError: x"}
    store.write_trial("trials", 4, [failed])
    store.write_trial("trials", 5, [{**row, "trial": 5, "status": "pruned", "reason": "stopped"}])
    for number in (2, 5):
        save_weights(folder / "checkpoints" / f"{number:05d}" / "weights.pt", config, result.model)
    return Case(folder, config, result)


class Case(NamedTuple):
    folder: Path
    config: TrialConfig
    result: TrialResult
    to: Path = Path()
    capsys: Any = None

    @property
    def store(self) -> ResultStore:
        return ResultStore(self.folder)

    @property
    def weights(self) -> Path:
        return self.folder / "checkpoints" / "00002" / "weights.pt"

    def row(self, number: int = 2) -> dict[str, Any]:
        (row,) = (row for row in self.store.read("trials") if row["trial"] == number)
        return row

    def export(self, trial: str = "2") -> Run:
        code = main([str(self.folder), "--trial", trial, "--to", str(self.to)])
        return Run(code, *self.capsys.readouterr())

    @property
    def card(self) -> str:
        return (self.to / "README.md").read_text(encoding="utf-8")

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.to / "metrics.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture
def case(trained: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    (tmp_path / "out").mkdir()
    folder = shutil.copytree(trained.folder, tmp_path / "tiny")
    return trained._replace(folder=folder, to=tmp_path / "out" / "network", capsys=capsys)


def python(*lines: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
