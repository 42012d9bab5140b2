from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

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


class Trained(NamedTuple):
    """A folder of results: trial 2 complete, 3 complete and worse, 4 failed, 5 pruned."""

    folder: Path
    config: TrialConfig
    result: TrialResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("results") / "tiny"
    folder.mkdir()
    config = make_space(folder).trial_config(PARAMS)
    cache = BaselineCache(folder / "baselines", load_task(config.task), torch.device("cpu"))
    result = run_experiment(config, cache)
    columns = trial_record(result, 2)["columns"]
    score = columns["validation.tradeoff_score"]
    complete = {**columns, "study": "tiny", "status": "complete", "trial": 2, "num_seeds": 1}
    store = ResultStore(folder)
    store.create()
    rows: list[dict[str, Any]] = [
        complete,
        {**complete, "trial": 3, "validation.tradeoff_score": score - 0.1},
        {"study": "tiny", "trial": 4, "status": "failed", "reason": "NonFiniteLossError: loss"},
        {**complete, "trial": 5, "status": "pruned", "reason": "stopped after 1 of 2 epochs"},
    ]
    for row in rows:
        store.write_trial("trials", row["trial"], [row])
    for number in (2, 5):
        save_weights(folder / "checkpoints" / f"{number:05d}" / "weights.pt", config, result.model)
    return Trained(folder, config, result)


class Case(NamedTuple):
    """Results that a test may damage, beside an empty folder for what is exported."""

    folder: Path
    config: TrialConfig
    result: TrialResult
    to: Path
    capsys: pytest.CaptureFixture[str]

    def export(self, trial: str = "2") -> Run:
        """Runs the program with ``--trial``."""
        code = main([str(self.folder), "--trial", trial, "--to", str(self.to)])
        return Run(code, *self.capsys.readouterr())

    @property
    def card(self) -> str:
        return (self.to / "README.md").read_text(encoding="utf-8")

    @property
    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.to / "metrics.json").read_text(encoding="utf-8"))
        return content


@pytest.fixture
def case(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    (tmp_path / "out").mkdir()
    folder = Path(shutil.copytree(trained.folder, tmp_path / "tiny"))
    return Case(folder, trained.config, trained.result, tmp_path / "out" / "network", capsys)


def _pixels() -> Tensor:
    return torch.rand(9, 1, 8, 8, generator=generator(0, "pixels"))


# What is written


def test_loaded_network_gives_the_trained_networks_outputs_bit_for_bit(case: Case) -> None:
    run = case.export()
    assert run.code == 0
    line = run.printed.splitlines()[-1]
    names = {"simreg_core": simreg_core}
    exec(line.removeprefix("load it: "), names)  # the command prints how
    with torch.no_grad():
        found = simreg_core.load_exported(case.to)(_pixels())
        assert torch.equal(found, names["model"](_pixels()))  # type: ignore[operator]
        weights = case.folder / "checkpoints" / "00002" / "weights.pt"
        assert torch.equal(found, load_weights(weights)(_pixels()))
        assert torch.equal(found, case.result.model(_pixels()))


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
    (row,) = (r for r in ResultStore(case.folder).read("trials") if r["trial"] == 2)
    found = case.metrics
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


def test_boundary_distance_has_a_number_of_images_of_its_own(case: Case) -> None:
    boundary = BoundaryConfig(num_images=10)
    robustness = case.config.robustness.model_copy(update={"boundary": boundary})
    config = case.config.model_copy(update={"robustness": robustness})
    row = ResultStore(case.folder).read("trials")[0]
    row["test.boundary_distance"] = 0.00123
    metrics = exported_metrics(row, config, None)
    assert metrics["test"]["boundary_num_images"] == 10
    assert "| - | 0.00123 |" in model_card(config, case.result.model, metrics)


def test_best_is_the_complete_trial_of_the_highest_validation_score(case: Case) -> None:
    case = case._replace(to=case.to / "with" / "parents")
    assert case.export("best").code == 0
    assert case.metrics["trial"] == 2


def test_best_is_that_of_the_searchs_own_objective_and_constraints(case: Case) -> None:
    store = ResultStore(case.folder)
    (row,) = (r for r in store.read("trials") if r["trial"] == 3)
    robust = row["validation.robust_accuracy"]
    store.write_trial("trials", 3, [{**row, "validation.robust_accuracy": robust + 0.1}])
    for constraints, number in (("[]", 3), (f"[robust_accuracy <= {robust}]", 2)):
        objective = f"[robust_accuracy]\nconstraints: {constraints}"
        write_space(case.folder, ("[clean_accuracy, robust_accuracy]", objective))
        assert _choose(store, None)["trial"] == number


def test_network_of_a_seed_has_its_own_figures(case: Case) -> None:
    """Of a trial of two: seed 0 has weights, and figures that are not the trial's mean."""
    store = ResultStore(case.folder)
    (row,) = (r for r in store.read("trials") if r["trial"] == 2)
    own = [{**row, "num_seeds": 1, "seed": seed, "test.clean_accuracy": 0.5} for seed in (0, 1)]
    store.write_trial("seeds", 2, own)
    store.write_trial("trials", 2, [{**row, "num_seeds": 2}])
    folder = case.folder / "checkpoints" / "00002"
    (folder / "seed-0").mkdir()
    (folder / "weights.pt").rename(folder / "seed-0" / "weights.pt")
    assert export_trial(case.folder, 2, case.to, 0) == (2, 0)
    assert case.metrics["test"]["values"]["clean_accuracy"] == 0.5
    with pytest.raises(ConfigError, match="trial 2 has no network of seed 7; it has: 0, 1"):
        export_trial(case.folder, 2, case.to.with_name("other"), 7)


def test_neither_ray_nor_optuna_is_loaded_and_threads_stay_as_they_are(case: Case) -> None:
    code = (
        "import sys, torch\n"
        "torch.set_num_threads(2)\n"
        "from tuner.export.__main__ import main\n"
        f"code = main([{str(case.folder)!r}, '--trial', '2', '--to', {str(case.to)!r}])\n"
        "print(code, torch.get_num_threads(), *{'ray', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 2"


# The model card


def test_card_names_input_conditions_figures_and_limits(case: Case) -> None:
    case.export()
    card = case.card
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
        assert fragment in card


def test_card_of_an_unregularized_network_says_so(case: Case) -> None:
    config = case.config.unregularized(0)
    row = ResultStore(case.folder).read("trials")[0]
    card = model_card(config, case.result.model, exported_metrics(row, config, None))
    assert "without regularizer" in card


# Confirmation


def _confirm(case: Case, robust: list[float]) -> None:
    """Confirmation of trial 2 as ``tuner.confirm`` writes it; a seed without a value failed."""
    store = ResultStore(case.folder)
    done = {}
    for index, seed in enumerate(SEEDS):
        pairs = [("baseline", None, case.config.unregularized(seed), 0.25 + 0.125 * index)]
        if index < len(robust):
            own = case.config.model_copy(update={"seed": seed})
            pairs.append(("trial", 2, own, robust[index]))  # type: ignore[arg-type]
        for role, number, config, accuracy in pairs:
            row = {
                **{"role": role, "trial": number, "status": "complete", **config.flat()},
                "config_digest": config.digest(),
                **dict.fromkeys((f"test.{name}" for name in METRICS.own), 0.0),
                "test.robust_accuracy": accuracy,
            }
            store.write("confirmation", f"{role}-{config.digest()}", [row])
            done[config.digest()] = row
    candidate = summarize(2, PARAMS, 0.1, case.config, SEEDS, done)
    write_summary(store, [candidate], SEEDS, [case.config], done)


def test_confirmed_figures_have_n_and_interval(case: Case) -> None:
    _confirm(case, [0.5, 0.75, 1.0])
    case.export()
    found = case.metrics["confirmation"]
    assert found["estimates"]["robust_accuracy"] == estimate([0.5, 0.75, 1.0])._asdict()
    assert found["baseline"]["robust_accuracy"] == estimate([0.25, 0.375, 0.5])._asdict()
    assert (found["split"], found["seeds"], found["num_failed"]) == ("test", list(SEEDS), 0)
    card = case.card
    assert "| robust accuracy | 3 | 0.7500 ± 0.6210 | 0.3750 ± 0.3105 | 3 |" in card


@pytest.mark.parametrize("robust", [[0.5, 0.75], []], ids=["one-failed", "all-failed"])
def test_failed_seeds_of_a_confirmation_are_counted(robust: list[float], case: Case) -> None:
    _confirm(case, robust)
    case.export()
    card = case.card
    assert f"{3 - len(robust)} of 3 seeds failed." in card
    assert ("| robust accuracy | 2 |" in card) == bool(robust)
    assert bool(case.metrics["confirmation"]["estimates"]) == bool(robust)


def test_confirmation_of_other_trials_is_not_this_ones(case: Case) -> None:
    _confirm(case, [0.5, 0.75, 1.0])
    shutil.copytree(case.folder / "checkpoints/00002", case.folder / "checkpoints/00003")
    case.export("3")
    assert case.metrics["confirmation"] is None


# What is refused


@pytest.mark.parametrize(
    ("trial", "fragments"),
    [
        ("7", ["no trial 7", "2 to 5"]),
        ("4", ["trial 4 ", "NonFiniteLossError"]),
        ("5", ["trial 5 ", "pruned"]),
        ("3", ["00003/weights.pt"]),
        ("x1", ["--trial", "'x1'"]),
        ("1.5", ["--trial", "'1.5'"]),
    ],
    ids=["unknown", "failed", "pruned", "no-weights", "text", "fraction"],
)
def test_trial_without_a_network_is_refused(trial: str, fragments: list[str], case: Case) -> None:
    assert_refused(case.export(trial), case.to, fragments)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("weights.pt", b"PK damaged"),
        ("trials/00003.parquet", b"PAR1"),
        ("confirmation.json", b"{"),
        ("confirmation.json", b"[]"),
        ("confirmation.json", b'{"candidates": [{"trial": 2}], "seeds": []}'),
    ],
)
def test_damaged_file_is_refused_by_name(file: str, content: bytes, case: Case) -> None:
    folder = case.folder / "checkpoints" / "00002" if file == "weights.pt" else case.folder
    (folder / file).write_bytes(content)
    assert_refused(case.export(), case.to, [f"{folder / file}"])


def test_weights_of_another_configuration_are_refused(case: Case) -> None:
    other = case.config.model_copy(update={"seed": 9})
    path = case.folder / "checkpoints" / "00002" / "weights.pt"
    save_weights(path, other, case.result.model)
    assert_refused(case.export(), case.to, ["weights.pt", other.digest()])


def test_folder_without_results_is_refused(case: Case) -> None:
    shutil.rmtree(case.folder / "trials")
    assert_refused(case.export(), case.to, [f"{case.folder}: "])
    shutil.rmtree(case.folder)
    assert_refused(case.export(), case.to, [f"{case.folder}: "])


@pytest.mark.parametrize("trial", ["0", "best"])
def test_search_without_an_ended_trial_is_refused(trial: str, case: Case) -> None:
    for number in (2, 3):
        ResultStore(case.folder).write_trial("trials", number, [])
    assert_refused(case.export("best"), case.to, ["2 trials"])  # none of them complete
    shutil.rmtree(case.folder / "trials")
    ResultStore(case.folder).create()
    assert_refused(case.export(trial), case.to, ["no trial"])


@pytest.mark.parametrize("kind", ["folder", "file", "dangling-link"])
def test_target_that_exists_is_refused_and_left_alone(kind: str, case: Case) -> None:
    if kind == "folder":
        case.to.mkdir()
    elif kind == "file":
        case.to.write_text("mine", encoding="utf-8")
    else:
        case.to.symlink_to(case.to.parent / "nowhere")
    done = case.export()
    assert done.code == 2
    assert done.errors.startswith(f"tuner.export: --to {case.to}: exists")
    assert list(case.to.parent.iterdir()) == [case.to]
    assert not case.to.is_dir() or not list(case.to.iterdir())


def test_target_below_a_file_is_refused(tmp_path: Path, case: Case) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    case = case._replace(to=tmp_path / "file" / "network")
    assert_refused(case.export(), case.to, ["--to"])


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
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from tuner.export.__main__ import export_trial\n"
        "Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"export_trial(Path({str(case.folder)!r}), 2, Path({str(case.to)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    (draft,) = case.to.parent.iterdir()
    assert draft.name.startswith(".network.")
    assert export_trial(case.folder, 2, case.to).trial == 2
    assert sorted(path.name for path in case.to.iterdir()) == FILES
