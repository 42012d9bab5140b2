from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData, load_task
from simreg_core.training import checkpoints
from simreg_core.training.baseline_networks import baseline_networks, surrogates_of
from simreg_core.training.baselines import BaselineCache, Baselines
from simreg_core.training.fit import NonFiniteLossError, fit
from simreg_core.training.state import EpochRecord
from tests.core_tests.trained_networks import CPU, MakeConfig
from tests.core_tests.trained_networks import trained as train


def _files(cache: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in cache.iterdir()
        if path.suffix != ".lock"
    }


def test_networks_are_the_baselines_in_order_and_the_surrogate(tiny_config: MakeConfig) -> None:
    config = tiny_config({"robustness.baseline_seeds": [7, 3], "robustness.surrogate_seed": 5})
    networks = baseline_networks(config)
    named = [(network.role, network.seed) for network in networks]
    assert named == [("baseline", 7), ("baseline", 3), ("surrogate", 5)]
    assert [network.config.seed for network in networks[:2]] == [7, 3]
    assert all(network.config.regularizer.alpha == 0 for network in networks)


@pytest.mark.parametrize(
    ("count", "trial", "baseline", "surrogate"),
    [
        ("all", [0, 7, 3], [0, 3], [7, 3]),
        (1, [0], [0], [7]),
        (2, [0, 7], [0, 3], [7, 3]),
        (3, [0, 7, 3], [0, 3], [7, 3]),
    ],
)
def test_networks_are_attacked_by_others_alone(
    count: int | str,
    trial: list[int],
    baseline: list[int],
    surrogate: list[int],
    tiny_config: MakeConfig,
) -> None:
    seeds = {"robustness.baseline_seeds": [7, 3], "robustness.surrogate_seed": 0}
    config = tiny_config({**seeds, "robustness.surrogates": count})
    networks = baseline_networks(config)
    for attacked, expected in (
        (config, trial),
        (networks[0].config, baseline),
        (config.model_copy(update={"seed": 7}), baseline),
        (networks[-1].config, surrogate),
    ):
        assert [network.seed for network in surrogates_of(attacked)] == expected


def test_baseline_is_the_unregularized_network_of_its_seed(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    baseline = baseline_networks(tiny_config())[0]
    found = BaselineCache(tmp_path, tiny_data, CPU).network(baseline).state_dict()
    plain = tiny_config({"regularizer.alpha": 0, "seed": 1})
    expected = train(plain, tiny_data).kept_weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_no_choice_of_seeds_makes_the_surrogate_a_baseline(tiny_config: MakeConfig) -> None:
    usual = baseline_networks(tiny_config())[-1].config.seed
    for seeds, own in ([usual], 0), ([usual, 1], 0), ([101], 101):
        changes = {"robustness.baseline_seeds": seeds, "robustness.surrogate_seed": own}
        *baselines, surrogate = baseline_networks(tiny_config(changes))
        assert surrogate.config.seed not in [network.config.seed for network in baselines]
    assert usual == 4240665349  # that of all results so far


class Measured(NamedTuple):
    """Two baselines and the surrogate, measured once for several tests."""

    config: TrialConfig
    data: TaskData
    cache: Path
    found: Baselines


@pytest.fixture(scope="module")
def measured(tiny_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    config, cache = tiny_config({"robustness.baseline_seeds": [1, 2]}), tmp_path_factory.mktemp("c")
    data = load_task(config.task)
    return Measured(config, data, cache, BaselineCache(cache, data, CPU).load(config))


def test_results_are_those_of_every_network(measured: Measured) -> None:
    named = [(result.role, result.seed) for result in measured.found.results]
    assert named == [("baseline", 1), ("baseline", 2), ("surrogate", 0)]
    for result in measured.found.results:
        assert [record.epoch for record in result.epochs] == [0, 1]
        assert all(record.similarity_loss is None for record in result.epochs)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_baseline_accuracy_is_the_mean_over_the_baselines_alone(
    split: str, measured: Measured
) -> None:
    measurements = [result.measurements(split) for result in measured.found.results]
    baseline = measured.found.accuracy(split)
    for name in ("clean_accuracy", "robust_accuracy"):
        one, other, _ = (getattr(found, name) for found in measurements)
        assert getattr(baseline, name) == pytest.approx((one + other) / 2)
        deviation = abs(one - other) / 2**0.5
        assert getattr(baseline, f"{name}_std") == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("changes", "num_trained", "is_shared"),
    [
        pytest.param({}, 2, True, id="the-same"),
        pytest.param({"regularizer.alpha": 3}, 2, True, id="alpha"),
        pytest.param({"training.learning_rate": 0.05}, 4, False, id="training"),
        pytest.param({"model.scale": 2.0}, 4, False, id="model"),
        pytest.param({"robustness.noise_seed": 5}, 2, False, id="attacks"),  # of the same networks
    ],
)
def test_trials_of_one_protocol_and_no_others_share_their_baselines(
    changes: dict[str, Any],
    num_trained: int,
    is_shared: bool,
    tiny_config: MakeConfig,
    tiny_data: TaskData,
    tmp_path: Path,
    trained: list[int],
) -> None:
    cache = BaselineCache(tmp_path, tiny_data, CPU)
    digest = cache.digest(tiny_config(changes))
    first = cache.load(tiny_config())
    before = _files(tmp_path)
    second = cache.load(tiny_config(changes))
    assert len(trained) == num_trained
    assert second.digest == digest  # known before anything is trained
    assert (second.digest == first.digest) == is_shared
    assert (second.results == first.results) == is_shared
    assert (_files(tmp_path) == before) == is_shared


def test_changed_images_have_baselines_of_their_own(
    make_dataset: Callable[..., Path], tiny_config: MakeConfig, tmp_path: Path
) -> None:
    changes = {"task.num_train": 20, "task.num_validation": 8, "task.num_test": 6}
    found: list[set[object]] = [set(), set()]
    for first_image in (0, 700):
        folder = make_dataset(first=first_image)  # the same path both times
        config = tiny_config({**changes, "task.dataset": f"parquet:{folder}"})
        cache = BaselineCache(tmp_path / "cache", load_task(config.task), CPU)
        found[0].add(cache.digest(config))
        found[1].add(cache.weights_file(baseline_networks(config)[0]))
    assert [len(names) for names in found] == [2, 2]


def test_several_that_ask_at_once_train_one_network(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path, trained: list[int]
) -> None:
    network = baseline_networks(tiny_config())[0]
    cache = BaselineCache(tmp_path, tiny_data, CPU)
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(cache.weights_file, [network] * 3))
    assert len(set(paths)) == 1
    assert len(trained) == 1


def test_interrupted_training_leaves_no_network_behind(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = baseline_networks(tiny_config())[0]
    cache = BaselineCache(tmp_path, tiny_data, CPU)

    def interrupted(*arguments: Any, **options: Any) -> Iterator[EpochRecord]:
        yield next(fit(*arguments, **options))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.weights_file(network)
    assert [name for name in _files(tmp_path) if not name.endswith(".state.pt")] == []
    path = cache.weights_file(network)
    assert set(_files(tmp_path)) == {path.name, path.with_suffix(".epochs.json").name}


def test_diverged_baseline_is_not_cached(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    network = baseline_networks(tiny_config({"training.learning_rate": 1e30}))[0]
    with pytest.raises(NonFiniteLossError, match="in epoch 0"):
        BaselineCache(tmp_path, tiny_data, CPU).weights_file(network)
    assert _files(tmp_path) == {}
