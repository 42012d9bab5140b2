from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import simreg_core
from simreg_core.config.loading import load_trial_config
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import load_weights, save_weights
from simreg_core.results.schema import METRICS
from simreg_core.results.tables import ResultStore
from simreg_core.seeding import generator
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
    result = run_experiment(config, cache=folder / "references", device=torch.device("cpu"))
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


@pytest.fixture
def results(trained: Trained, tmp_path: Path) -> Trained:
    """A copy that a test may damage, beside an empty folder for what is exported."""
    (tmp_path / "out").mkdir()
    return trained._replace(folder=Path(shutil.copytree(trained.folder, tmp_path / "tiny")))


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "out" / "network"


@pytest.fixture
def export(results: Trained, to: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Run]:
    """Runs the program on ``results``; takes the value of ``--trial``."""

    def run(trial: str = "2") -> Run:
        code = main([str(results.folder), "--trial", trial, "--to", str(to)])
        return Run(code, *capsys.readouterr())

    return run


def _pixels() -> Tensor:
    return torch.rand(9, 1, 8, 8, generator=generator(0, "pixels"))


def _metrics(to: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((to / "metrics.json").read_text(encoding="utf-8"))
    return content


# What is written


def test_loaded_network_gives_the_trained_networks_outputs_bit_for_bit(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    assert export().code == 0
    with torch.no_grad():
        found = simreg_core.load_exported(to)(_pixels())
        weights = results.folder / "checkpoints" / "00002" / "weights.pt"
        assert torch.equal(found, load_weights(weights)(_pixels()))
        assert torch.equal(found, results.result.model(_pixels()))


def test_folder_holds_four_files_and_nothing_is_left_beside_it(
    export: Callable[..., Run], to: Path
) -> None:
    export()
    assert sorted(path.name for path in to.iterdir()) == FILES
    assert list(to.parent.iterdir()) == [to]


def test_no_file_is_a_pickle_or_an_archive(export: Callable[..., Run], to: Path) -> None:
    export()
    starts = {path.name: path.read_bytes()[:2] for path in to.iterdir()}
    assert not {name for name, start in starts.items() if start in (b"PK", b"\x80\x02")}
    assert (to / "model.safetensors").read_bytes()[8:9] == b"{"  # its header is JSON


def test_printed_line_loads_the_network(export: Callable[..., Run]) -> None:
    line = export().printed.splitlines()[-1]
    assert line.startswith("load it: model = ")
    names = {"simreg_core": simreg_core}
    exec(line.removeprefix("load it: "), names)
    assert names["model"](_pixels()).shape == (9, 10)  # type: ignore[operator]


def test_configuration_is_the_trials_and_can_be_trained_again(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    export()
    assert load_trial_config(to / "config.yaml") == results.config


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_the_row(
    split: str, export: Callable[..., Run], results: Trained, to: Path
) -> None:
    export()
    (row,) = (r for r in ResultStore(results.folder).read("trials") if r["trial"] == 2)
    found = _metrics(to)[split]
    assert found["num_images"] == 64
    assert found["figures"] == {name: row[f"{split}.{name}"] for name in METRICS}
    assert {f"{split}.baseline_{k}": v for k, v in found["baseline"].items()} == {
        name: value for name, value in row.items() if name.startswith(f"{split}.baseline_")
    }


def test_conditions_and_provenance_stand_beside_the_figures(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    export()
    found = _metrics(to)
    assert (found["study"], found["trial"], found["status"]) == ("tiny", 2, "complete")
    assert found["baseline_seeds"] == [1, 2]
    assert found["reference_epsilons"] == {"gaussian": 0.4, "transfer_fgsm": 0.15}
    assert (found["validation"]["is_selected_on"], found["test"]["is_selected_on"]) == (True, False)
    assert found["config_digest"] == results.config.digest()
    assert found["provenance"]["torch_version"] == torch.__version__
    assert "host" not in found["provenance"]


def test_boundary_distance_has_a_number_of_images_of_its_own(results: Trained) -> None:
    boundary = BoundaryConfig(num_images=10)
    robustness = results.config.robustness.model_copy(update={"boundary": boundary})
    config = results.config.model_copy(update={"robustness": robustness})
    row = ResultStore(results.folder).read("trials")[0]
    row["test.boundary_distance"] = 0.00123
    metrics = exported_metrics(row, config, None)
    assert metrics["test"]["boundary_num_images"] == 10
    card = model_card(config, results.result.model, metrics)
    assert "first images only: 10 validation, 10 test images" in card
    assert "| boundary distance | - | 0.00123 |" in card


def test_best_is_the_complete_trial_of_the_highest_validation_score(
    export: Callable[..., Run], to: Path
) -> None:
    assert export("best").code == 0
    assert _metrics(to)["trial"] == 2


def test_best_is_that_of_the_searchs_own_objective_and_constraints(results: Trained) -> None:
    store = ResultStore(results.folder)
    (row,) = (r for r in store.read("trials") if r["trial"] == 3)
    robust = row["validation.robust_accuracy"]
    store.write_trial("trials", 3, [{**row, "validation.robust_accuracy": robust + 0.1}])
    for constraints, number in (("[]", 3), (f"[robust_accuracy <= {robust}]", 2)):
        objective = f"[robust_accuracy]\nconstraints: {constraints}"
        write_space(results.folder, ("[clean_accuracy, robust_accuracy]", objective))
        assert _choose(store, None)["trial"] == number


def test_network_of_a_seed_has_its_own_figures(results: Trained, to: Path) -> None:
    """Of a trial of two: seed 0 has weights, and figures that are not the trial's mean."""
    store = ResultStore(results.folder)
    (row,) = (r for r in store.read("trials") if r["trial"] == 2)
    own = [{**row, "num_seeds": 1, "seed": seed, "test.clean_accuracy": 0.5} for seed in (0, 1)]
    store.write_trial("seeds", 2, own)
    store.write_trial("trials", 2, [{**row, "num_seeds": 2}])
    folder = results.folder / "checkpoints" / "00002"
    (folder / "seed-0").mkdir()
    (folder / "weights.pt").rename(folder / "seed-0" / "weights.pt")
    assert export_trial(results.folder, 2, to, 0) == (2, 0)
    assert _metrics(to)["test"]["figures"]["clean_accuracy"] == 0.5
    with pytest.raises(ConfigError, match="trial 2 has no network of seed 7; it has: 0, 1"):
        export_trial(results.folder, 2, to.with_name("other"), 7)


def test_missing_parents_are_made(results: Trained, tmp_path: Path) -> None:
    to = tmp_path / "a" / "b" / "c"
    assert export_trial(results.folder, 2, to).trial == 2
    assert sorted(path.name for path in to.iterdir()) == FILES


def test_neither_ray_nor_optuna_is_loaded_and_threads_stay_as_they_are(
    results: Trained, to: Path
) -> None:
    code = (
        "import sys, torch\n"
        "torch.set_num_threads(2)\n"
        "from tuner.export.__main__ import main\n"
        f"code = main([{str(results.folder)!r}, '--trial', '2', '--to', {str(to)!r}])\n"
        "print(code, torch.get_num_threads(), *{'ray', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 2"


# The model card


def test_card_names_input_conditions_and_limits(export: Callable[..., Run], to: Path) -> None:
    export()
    card = (to / "README.md").read_text(encoding="utf-8")
    for fragment in (
        "# tiny, trial 2",
        "float32 (batch, 1, height, width), grey; trained on 8 x 8 pixels",
        "pixels in [0, 1]",
        "| `regularizer.alpha` | `0.1` |",
        "validation, n = 64 | test, n = 64",
        "One network, one seed (0): a screening.",
        "gaussian 0.4, transfer_fgsm 0.15",
        "was not confirmed",
        "no defence against a white-box adversary",
        "simreg_core.load_exported(",
    ):
        assert fragment in card


def test_card_has_the_figures_of_the_row(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    export()
    card = (to / "README.md").read_text(encoding="utf-8")
    figures = results.result.columns
    clean = [figures[f"{split}.clean_accuracy"] for split in ("validation", "test")]
    score = [figures[f"{split}.tradeoff_score"] for split in ("validation", "test")]
    assert f"| clean accuracy | {clean[0]:.4f} | {clean[1]:.4f} |" in card
    assert f"| tradeoff score | {score[0]:+.4f} | {score[1]:+.4f} |" in card


def test_card_of_an_unregularized_network_says_so(results: Trained) -> None:
    config = results.config.unregularized(0)
    row = ResultStore(results.folder).read("trials")[0]
    card = model_card(config, results.result.model, exported_metrics(row, config, None))
    assert "trained without regularizer (alpha is 0)" in card
    assert "None: alpha is 0." in card


# Confirmation


def _confirm(results: Trained, robust: list[float]) -> None:
    """Confirmation of trial 2 as ``tuner.confirm`` writes it; a seed without a value failed."""
    store = ResultStore(results.folder)
    done = {}
    for index, seed in enumerate(SEEDS):
        pairs = [("baseline", None, results.config.unregularized(seed), 0.25 + 0.125 * index)]
        if index < len(robust):
            own = results.config.model_copy(update={"seed": seed})
            pairs.append(("trial", 2, own, robust[index]))  # type: ignore[arg-type]
        for role, number, config, accuracy in pairs:
            row = {
                **{"role": role, "trial": number, "status": "complete", **config.flat()},
                "config_digest": config.digest(),
                **dict.fromkeys((f"test.{name}" for name in METRICS), 0.0),
                "test.robust_accuracy": accuracy,
            }
            store.write("confirmation", f"{role}-{config.digest()}", [row])
            done[config.digest()] = row
    candidate = summarize(2, PARAMS, 0.1, results.config, SEEDS, done)
    write_summary(store, [candidate], SEEDS, [results.config], done)


def test_confirmed_figures_have_n_and_interval(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    _confirm(results, [0.5, 0.75, 1.0])
    export()
    found = _metrics(to)["confirmation"]
    assert found["estimates"]["robust_accuracy"] == estimate([0.5, 0.75, 1.0])._asdict()
    assert found["baseline"]["robust_accuracy"] == estimate([0.25, 0.375, 0.5])._asdict()
    assert (found["split"], found["seeds"], found["num_failed"]) == ("test", list(SEEDS), 0)
    card = (to / "README.md").read_text(encoding="utf-8")
    assert "| robust accuracy | 3 | 0.7500 ± 0.6210 | 0.3750 ± 0.3105 | 3 |" in card
    assert "95 % Student's t over seeds" in card
    assert "The network in this folder is not one of these." in card


def test_failed_seeds_of_a_confirmation_are_named(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    _confirm(results, [0.5, 0.75])
    export()
    card = (to / "README.md").read_text(encoding="utf-8")
    assert "1 of 3 seeds failed." in card
    assert "| robust accuracy | 2 |" in card


def test_confirmation_without_a_figure_says_so(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    _confirm(results, [])
    export()
    assert _metrics(to)["confirmation"]["estimates"] == {}
    assert "gave no figures. 3 of 3 seeds failed." in (to / "README.md").read_text(encoding="utf-8")


def test_confirmation_of_other_trials_is_not_this_ones(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    _confirm(results, [0.5, 0.75, 1.0])
    shutil.copytree(results.folder / "checkpoints/00002", results.folder / "checkpoints/00003")
    export("3")
    assert _metrics(to)["confirmation"] is None


@pytest.mark.parametrize("content", ["{", "[]", '{"candidates": [{"trial": 2}], "seeds": []}'])
def test_damaged_confirmation_is_refused(
    content: str, export: Callable[..., Run], results: Trained, to: Path
) -> None:
    (results.folder / "confirmation.json").write_text(content, encoding="utf-8")
    assert_refused(export(), to, ["confirmation.json: damaged"])


# What is refused


@pytest.mark.parametrize(
    ("trial", "fragments"),
    [
        pytest.param("7", ["no trial 7", "2 to 5"], id="unknown"),
        pytest.param("4", ["trial 4 has no network", "is failed: NonFiniteLossError"], id="failed"),
        pytest.param("5", ["trial 5 has no network", "is pruned: stopped after 1"], id="pruned"),
        pytest.param("3", ["00003/weights.pt does not exist"], id="no-weights"),
        pytest.param("x1", ["--trial", "number of a trial or best", "'x1'"], id="text"),
        pytest.param("1.5", ["--trial", "'1.5'"], id="fraction"),
    ],
)
def test_trial_without_a_network_is_refused(
    trial: str, fragments: list[str], export: Callable[..., Run], to: Path
) -> None:
    assert_refused(export(trial), to, fragments)


def test_damaged_weights_are_refused(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    path = results.folder / "checkpoints" / "00002" / "weights.pt"
    path.write_bytes(path.read_bytes()[:-200])
    assert_refused(export(), to, ["weights.pt is damaged"])


def test_weights_of_another_configuration_are_refused(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    other = results.config.model_copy(update={"seed": 9})
    path = results.folder / "checkpoints" / "00002" / "weights.pt"
    save_weights(path, other, results.result.model)
    assert_refused(export(), to, [f"belongs to configuration {other.digest()}", "but trial 2 to"])


def test_missing_results_folder_is_refused(
    tmp_path: Path, to: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([str(tmp_path / "nowhere"), "--trial", "2", "--to", str(to)])
    assert_refused(Run(code, *capsys.readouterr()), to, ["nowhere: no such folder"])


def test_folder_without_tables_is_refused(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    shutil.rmtree(results.folder / "trials")
    assert_refused(export(), to, ["no trials/"])


def test_damaged_table_is_refused(export: Callable[..., Run], results: Trained, to: Path) -> None:
    (results.folder / "trials" / "00003.parquet").write_bytes(b"PAR1")
    assert_refused(export(), to, ["trials/00003.parquet: not a readable Parquet file"])


@pytest.mark.parametrize("trial", ["0", "best"])
def test_search_without_an_ended_trial_is_refused(
    trial: str, export: Callable[..., Run], results: Trained, to: Path
) -> None:
    shutil.rmtree(results.folder / "trials")
    ResultStore(results.folder).create()
    assert_refused(export(trial), to, ["no trial has ended yet"])


def test_best_of_no_complete_trial_is_refused(
    export: Callable[..., Run], results: Trained, to: Path
) -> None:
    for number in (2, 3):
        ResultStore(results.folder).write_trial("trials", number, [])
    assert_refused(export("best"), to, ["none of 2 trials is complete"])


@pytest.mark.parametrize("kind", ["folder", "file", "dangling-link"])
def test_target_that_exists_is_refused_and_left_alone(
    kind: str, export: Callable[..., Run], to: Path
) -> None:
    if kind == "folder":
        to.mkdir()
    elif kind == "file":
        to.write_text("mine", encoding="utf-8")
    else:
        to.symlink_to(to.parent / "nowhere")
    done = export()
    assert done.code == 2
    assert (
        done.errors == f"tuner.export: --to {to}: exists; choose another (nothing is overwritten)\n"
    )
    assert list(to.parent.iterdir()) == [to]
    assert not to.is_dir() or not list(to.iterdir())


def test_target_below_a_file_is_refused(
    results: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    to = tmp_path / "file" / "network"
    code = main([str(results.folder), "--trial", "2", "--to", str(to)])
    assert_refused(Run(code, *capsys.readouterr()), to, ["--to", "cannot be written"])


# Whole or not at all


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("num_written", range(len(FILES)))
def test_failure_at_any_file_leaves_nothing(
    num_written: int,
    error: BaseException,
    export: Callable[..., Run],
    to: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = os.replace
    done: list[object] = []

    def failing(source: Path, target: Path) -> None:
        if len(done) == num_written:
            raise error
        done.append(target)
        replace(source, target)

    monkeypatch.setattr("simreg_core.storage.atomic.os.replace", failing)
    assert export().code == (2 if isinstance(error, OSError) else 130)
    assert list(to.parent.iterdir()) == []


def test_killed_before_the_folder_has_its_name_only_a_hidden_draft_is_left(
    results: Trained, to: Path
) -> None:
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from tuner.export.__main__ import export_trial\n"
        "Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"export_trial(Path({str(results.folder)!r}), 2, Path({str(to)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    (draft,) = to.parent.iterdir()
    assert draft.name.startswith(".network.")
    assert export_trial(results.folder, 2, to).trial == 2
    assert sorted(path.name for path in to.iterdir()) == FILES
