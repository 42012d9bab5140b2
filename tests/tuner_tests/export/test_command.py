from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import simreg_core
from simreg_core.config.loading import load_trial_config
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import load_weights, save_weights
from simreg_core.registry import METRICS
from simreg_core.results.tables import ResultStore
from simreg_core.seeding import generator
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import TrialResult, run_experiment
from tests.tuner_tests.spaces import Run, assert_refused, make_space, write_space
from tuner.confirmation.summary import estimate, summarize, write_summary
from tuner.execution.records import trial_record
from tuner.export.__main__ import _choose, export_trial, exported_metrics, main
from tuner.export.model_card import model_card

ROOT = Path(__file__).parents[3]
FILES = ["README.md", "config.yaml", "metrics.json", "model.safetensors"]
PARAMS = {"regularizer.threshold": 0.3, "regularizer.alpha": 0.1}
SEEDS = (1000, 1001, 1002)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialConfig, TrialResult]:
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
    return folder, config, result


class Case(NamedTuple):
    """Results that a test may damage, and where to export them."""

    folder: Path
    config: TrialConfig
    result: TrialResult
    to: Path
    capsys: pytest.CaptureFixture[str]

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
        """Runs the program with ``--trial``."""
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
def case(
    trained: tuple[Path, TrialConfig, TrialResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Case:
    (tmp_path / "out").mkdir()
    folder, config, result = trained
    copy = shutil.copytree(folder, tmp_path / "tiny")
    return Case(copy, config, result, tmp_path / "out" / "network", capsys)


def python(*lines: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# What is written


def test_loaded_network_gives_the_trained_networks_outputs_bit_for_bit(case: Case) -> None:
    run = case.export()
    assert run.code == 0
    line = run.printed.splitlines()[-1]
    names = {"simreg_core": simreg_core}
    exec(line.removeprefix("load it: "), names)  # the command prints how
    pixels = torch.rand(9, 1, 8, 8, generator=generator(0, "pixels"))
    with torch.no_grad():
        found = simreg_core.load_exported(case.to)(pixels)
        assert torch.equal(found, names["model"](pixels))  # type: ignore[operator]
        assert torch.equal(found, load_weights(case.weights)(pixels))
        assert torch.equal(found, case.result.model(pixels))


def test_folder_holds_four_files_without_pickles_and_nothing_is_left_beside_it(case: Case) -> None:
    case.export()
    assert sorted(path.name for path in case.to.iterdir()) == FILES
    assert list(case.to.parent.iterdir()) == [case.to]
    starts = {path.name: path.read_bytes()[:2] for path in case.to.iterdir()}
    assert not {name for name, start in starts.items() if start in (b"PK", b"\x80\x02")}
    assert (case.to / "model.safetensors").read_bytes()[8:9] == b"{"  # its header is JSON
    assert load_trial_config(case.to / "config.yaml") == case.config


def test_figures_are_those_of_the_row_with_their_conditions(case: Case) -> None:
    case.export()
    row, found = case.row(), case.metrics
    for split in ("validation", "test"):
        assert found[split]["num_images"] == 64
        assert found[split]["is_selected_on"] == (split == "validation")
        names = [*METRICS.own, "robust_accuracy.gaussian", "robust_accuracy.transfer_fgsm"]
        assert found[split]["values"] == {name: row[f"{split}.{name}"] for name in names}
        assert {f"{split}.baseline_{k}": v for k, v in found[split]["baseline"].items()} == {
            name: value for name, value in row.items() if name.startswith(f"{split}.baseline_")
        }
    assert (found["study"], found["trial"], found["status"]) == ("tiny", 2, "complete")
    assert found["baseline_seeds"] == [1, 2]
    assert found["reference_epsilons"] == {"gaussian": 0.4, "transfer_fgsm": 0.15}
    assert found["config_digest"] == case.config.digest()
    assert found["provenance"]["torch_version"] == torch.__version__
    assert "host" not in found["provenance"]


def test_card_has_the_boundary_distance_and_names_an_unregularized_network(case: Case) -> None:
    boundary = BoundaryConfig(num_images=10)
    robustness = case.config.robustness.model_copy(update={"boundary": boundary})
    config = case.config.unregularized(0).model_copy(update={"robustness": robustness})
    row = case.row() | {"test.boundary_distance": 0.00123}
    metrics = exported_metrics(row, config, None)
    assert metrics["test"]["boundary_num_images"] == 10
    card = model_card(config, case.result.model, metrics)
    assert "| - | 0.00123 |" in card
    assert "without regularizer" in card


def test_best_is_that_of_the_objective_and_the_constraints(case: Case) -> None:
    row = case.row(3)
    robust = row["validation.robust_accuracy"]
    case.store.write_trial("trials", 3, [{**row, "validation.robust_accuracy": robust + 0.1}])
    case = case._replace(to=case.to / "with" / "parents")
    assert case.export("best").code == 0
    assert case.metrics["trial"] == 2  # by the tradeoff score
    for constraints, number in (("[]", 3), (f"[robust_accuracy <= {robust}]", 2)):
        objective = f"[robust_accuracy]\nconstraints: {constraints}"
        write_space(case.folder, ("[clean_accuracy, robust_accuracy]", objective))
        assert _choose(case.store, None)["trial"] == number


def test_network_of_a_seed_has_its_own_figures(case: Case) -> None:
    row = case.row()
    own = [{**row, "seed": seed, "test.clean_accuracy": 0.5} for seed in (0, 1)]
    case.store.write_trial("seeds", 2, own)
    case.store.write_trial("trials", 2, [{**row, "num_seeds": 2}])
    case.weights.with_name("seed-0").mkdir()
    case.weights.rename(case.weights.parent / "seed-0" / "weights.pt")
    assert export_trial(case.folder, 2, case.to, 0) == (2, 0)
    assert case.metrics["test"]["values"]["clean_accuracy"] == 0.5
    with pytest.raises(ConfigError, match="trial 2 has no network of seed 7; it has: 0, 1"):
        export_trial(case.folder, 2, case.to.with_name("other"), 7)


def test_neither_ray_nor_optuna_is_loaded_and_threads_stay_as_they_are(case: Case) -> None:
    done = python(
        "import sys, torch",
        "torch.set_num_threads(2)",
        "from tuner.export.__main__ import main",
        f"code = main([{str(case.folder)!r}, '--trial', '2', '--to', {str(case.to)!r}])",
        "print(code, torch.get_num_threads(), *{'ray', 'optuna'} & set(sys.modules))",
    )
    assert done.stdout.splitlines()[-1] == "0 2"


# The model card


def test_card_names_input_conditions_figures_and_limits(case: Case) -> None:
    case.export()
    figures = case.result.columns
    clean, score = (
        [figures[f"{split}.{name}"] for split in ("validation", "test")]
        for name in ("clean_accuracy", "tradeoff_score")
    )
    for fragment in (
        "# tiny, trial 2",
        "(batch, 1, height, width)",
        "| `regularizer.alpha` | `0.1` |",
        "n = 64",
        "gaussian 0.4, transfer_fgsm 0.15",
        "not confirmed",
        "white-box",
        "simreg_core.load_exported(",
        f"| clean accuracy | {clean[0]:.4f} | {clean[1]:.4f} |",
        f"| tradeoff score | {score[0]:+.4f} | {score[1]:+.4f} |",
    ):
        assert fragment in case.card


# Confirmation


@pytest.mark.parametrize("robust", [(0.5, 0.75, 1.0), (0.5, 0.75), ()])
def test_confirmed_metrics_have_n_and_interval(robust: tuple[float, ...], case: Case) -> None:
    """A seed without a value has failed."""
    done: dict[str, dict[str, Any]] = {}
    for seed, baseline, own in itertools.zip_longest(SEEDS, (0.25, 0.375, 0.5), robust):
        regularized = case.config.model_copy(update={"seed": seed})
        plain = regularized.unregularized(seed)
        for role, config, value in (("trial", regularized, own), ("baseline", plain, baseline)):
            row: dict[str, Any] = dict.fromkeys((f"test.{name}" for name in METRICS.own), 0.0)
            row |= {"role": role, "status": "complete", "config_digest": config.digest()}
            if value is not None:
                done[config.digest()] = row | {"test.robust_accuracy": value}
    case.store.write("confirmation", "all", list(done.values()))
    candidate = summarize(2, PARAMS, 0.1, case.config, SEEDS, done)
    write_summary(case.store, [candidate], SEEDS, [case.config], done)
    case.export()
    found, num_failed = case.metrics["confirmation"], 3 - len(robust)
    assert (found["split"], found["seeds"]) == ("test", list(SEEDS))
    assert found["num_failed"] == num_failed
    assert found["baseline"]["robust_accuracy"] == estimate([0.25, 0.375, 0.5])._asdict()
    assert (f"{num_failed} of 3 seeds failed." in case.card) == (num_failed > 0)
    if robust:
        assert found["estimates"]["robust_accuracy"] == estimate(robust)._asdict()
        assert f"| robust accuracy | {len(robust)} | " in case.card
    else:
        assert found["estimates"] == {}
    if not num_failed:
        assert "| 3 | 0.7500 ± 0.6210 | 0.3750 ± 0.3105 | 3 |" in case.card
    shutil.copytree(case.weights.parent, case.folder / "checkpoints/00003")
    other = case._replace(to=case.to.with_name("other"))
    other.export("3")
    assert other.metrics["confirmation"] is None


# What is refused


@pytest.mark.parametrize(
    ("trial", "fragments"),
    [
        ("7", ["no trial 7", "2 to 5"]),
        ("4", ["trial 4 ", "NonFiniteLossError"]),
        ("5", ["trial 5 ", "pruned"]),
        ("3", ["00003/weights.pt"]),
        ("1.5", ["--trial", "'1.5'"]),
    ],
    ids=["unknown", "failed", "pruned", "no-weights", "fraction"],
)
def test_trial_without_a_network_is_refused(trial: str, fragments: list[str], case: Case) -> None:
    assert_refused(case.export(trial), case.to, fragments)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("checkpoints/00002/weights.pt", b"PK damaged"),
        ("trials/00003.parquet", b"PAR1"),
        ("confirmation.json", b"{"),
        ("confirmation.json", b"[]"),
        ("confirmation.json", b'{"candidates": [{"trial": 2}], "seeds": []}'),
    ],
)
def test_damaged_file_is_refused_by_name(file: str, content: bytes, case: Case) -> None:
    (case.folder / file).write_bytes(content)
    assert_refused(case.export(), case.to, [f"{case.folder / file}"])


def test_weights_of_another_configuration_and_missing_results_are_refused(case: Case) -> None:
    other = case.config.model_copy(update={"seed": 9})
    save_weights(case.weights, other, case.result.model)
    assert_refused(case.export(), case.to, ["weights.pt", other.digest()])
    shutil.rmtree(case.folder / "trials")
    assert_refused(case.export(), case.to, [f"{case.folder}: "])
    shutil.rmtree(case.folder)
    assert_refused(case.export(), case.to, [f"{case.folder}: "])


def test_search_without_an_ended_trial_is_refused(case: Case) -> None:
    for number in (2, 3):
        case.store.write_trial("trials", number, [])
    assert_refused(case.export("best"), case.to, ["2 trials"])  # none of them complete
    shutil.rmtree(case.folder / "trials")
    case.store.create()
    for trial in ("0", "best"):
        assert_refused(case.export(trial), case.to, ["no trial"])


@pytest.mark.parametrize("kind", ["folder", "dangling-link", "below-a-file"])
def test_unusable_target_is_refused_and_left_alone(kind: str, case: Case) -> None:
    if kind == "folder":
        case.to.mkdir()
    elif kind == "dangling-link":
        case.to.symlink_to(case.to.parent / "nowhere")
    else:
        case.to.touch()
        case = case._replace(to=case.to / "network")
    before = list(case.folder.parent.rglob("*"))
    done = case.export()
    assert done.code == 2
    assert f"tuner.export: --to {case.to}: " in done.errors
    assert list(case.folder.parent.rglob("*")) == before


# Whole or not at all


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("num_written", range(len(FILES)))
def test_failure_at_any_file_leaves_nothing(
    num_written: int, error: BaseException, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    replace = os.replace
    done: list[object] = []

    def failing(source: Path, target: Path) -> None:
        if len(done) == num_written:
            raise error
        done.append(target)
        replace(source, target)

    monkeypatch.setattr("simreg_core.storage.base.os.replace", failing)
    assert case.export().code == (2 if isinstance(error, OSError) else 130)
    assert list(case.to.parent.iterdir()) == []


def test_killed_before_the_folder_has_its_name_only_a_hidden_draft_is_left(case: Case) -> None:
    done = python(
        "import os, signal",
        "from pathlib import Path",
        "from tuner.export.__main__ import export_trial",
        "Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)",
        f"export_trial(Path({str(case.folder)!r}), 2, Path({str(case.to)!r}))",
    )
    assert done.returncode == -9
    (draft,) = case.to.parent.iterdir()
    assert draft.name.startswith(".network.")
    assert export_trial(case.folder, 2, case.to).trial == 2
    assert sorted(path.name for path in case.to.iterdir()) == FILES
