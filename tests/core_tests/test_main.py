from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from simreg_core.__main__ import main
from simreg_core.config.trial import TrialConfig
from simreg_core.networks.checkpoint import load_weights
from simreg_core.results.measurements import CurvePoint
from simreg_core.training.checkpoints import CheckpointWriter
from simreg_core.training.fit import fit
from simreg_core.training.state import EpochRecord, TrainingState
from tests.core_tests.measuring import accuracies
from tests.core_tests.trained_networks import MakeConfig

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trial_file(tmp_path: Path, tiny_trial: Callable[..., dict[str, Any]]) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(tiny_trial()))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def run(trial_file: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the trial with more flags; returns the exit code and what it printed."""

    def make(*more: str) -> tuple[int, str, str]:
        flags = ["--config", str(trial_file), "--output", str(output), "--device", "cpu", *more]
        return (main(flags), *capsys.readouterr())

    return make


def _files(output: Path) -> set[str]:
    return {path.name for path in output.rglob("*") if path.is_file()}


def test_trial_is_run_and_its_results_are_written(
    run: Run, output: Path, tiny_config: MakeConfig
) -> None:
    code, printed, _ = run("--set", "seed=5")
    assert code == 0
    folder = output / "single" / tiny_config({"seed": 5}).digest()
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "result.json"}

    result = json.loads((folder / "result.json").read_text())
    assert TrialConfig.from_dict(result["config"]) == tiny_config({"seed": 5})
    points = [CurvePoint(**point) for point in result["curves"] if point["split"] == "test"]
    assert accuracies(points)["robust_accuracy"] == result["columns"]["test.robust_accuracy"]
    assert [record["epoch"] for record in result["epochs"]] == [0, 1]
    assert not load_weights(folder / "weights.pt").training

    clean = [result["columns"][f"{split}.clean_accuracy"] for split in ("validation", "test")]
    assert re.search(rf"clean_accuracy +{clean[0]:.4f} +{clean[1]:.4f}\n", printed)
    assert str(folder) in printed


def test_threads_are_set_before_anything_is_computed(run: Run, tmp_path: Path) -> None:
    # The run stops at its missing data: two threads that compute would disturb other tests.
    assert run("--threads", "2", "--set", f"task.dataset=parquet:{tmp_path}")[0] == 2
    assert torch.get_num_threads() == 2


def test_interrupted_run_is_continued(
    run: Run, output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def killed(record: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("simreg_core.__main__._log_epoch", killed)
        assert run()[0] == 130
    assert "state.pt" in _files(output)
    assert run()[0] == 0
    assert re.findall(r"epoch (\d+):", caplog.text) == ["1"]
    assert "state.pt" not in _files(output)


def test_interrupted_baseline_is_continued(
    run: Run, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_epochs: list[int] = []

    def counted(state: TrainingState, *rest: Any, **options: Any) -> Iterator[EpochRecord]:
        first_epochs.append(len(state.records))
        return fit(state, *rest, **options)

    def killed(self: CheckpointWriter, state: TrainingState, *, is_last: bool) -> None:
        state.save(self.path, self.digest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "save", killed)
        assert run()[0] == 130
    assert [name for name in _files(output) if name.endswith(".state.pt")]
    monkeypatch.setattr("simreg_core.training.checkpoints.fit", counted)
    assert run()[0] == 0
    assert first_epochs == [1, 0, 0]  # baseline (resumed), surrogate, trial
    assert not [name for name in _files(output) if name.endswith("state.pt")]


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        ("--set training.epoch=3", "training.epoch: "),
        ("--set task.dataset=parquet:/nowhere", "task.dataset: "),
        ("--set regularizer.num_images=129", "regularizer.num_images: "),
        ("--config absent.yaml", "absent.yaml: "),
        ("--device cuda", "--device: "),
        ("--threads 0", "--threads: "),
        ("--output {trial_file}", "--output: "),
    ],
)
def test_bad_input_is_exit_2_and_nothing_is_written(
    flags: str, key: str, trial_file: Path, run: Run, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, printed, error = run(*flags.format(trial_file=trial_file).split())
    assert (code, printed) == (2, "")
    line = error.splitlines()[-1]
    assert line.startswith("simreg_core: ")
    assert key in line
    assert "Traceback" not in error
    # Only the number of images is known late: the baseline networks exist by then.
    assert not {"result.json", "weights.pt", "state.pt"} & _files(output)
    assert not _files(output) or "num_images" in flags


def test_damaged_checkpoint_is_exit_2_and_kept(
    run: Run, output: Path, tiny_config: MakeConfig
) -> None:
    state = output / "single" / tiny_config().digest() / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"half a file")
    code, _, error = run()
    assert code == 2
    assert f"{state} is damaged" in error
    assert state.read_bytes() == b"half a file"


def test_divergence_is_exit_1_and_no_result_is_written(run: Run, output: Path) -> None:
    code, printed, error = run("--set", "training.learning_rate=1.0e+30")
    assert (code, printed) == (1, "")
    assert re.search("simreg_core: training failed: .* in epoch 0", error)
    assert not {"result.json", "weights.pt"} & _files(output)
