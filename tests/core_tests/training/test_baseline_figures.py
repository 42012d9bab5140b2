"""What is measured of baseline networks, and when it is measured again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.errors import ConfigError
from simreg_core.registry import ATTACKS
from simreg_core.results.schema import SPLITS
from simreg_core.robustness.evaluate import SplitMeasurements, Surrogate, measure, precompute
from simreg_core.training import baselines
from simreg_core.training.baseline_networks import baseline_networks
from simreg_core.training.baselines import BaselineCache, Baselines
from tests.core_tests.trained_networks import CPU, MakeConfig

MEASURED = {
    "robustness.boundary": {"steps": 5, "num_images": 20, "repeats": 1},
    "robustness.corruptions": {"kinds": ["contrast", "impulse_noise"], "severities": [2, 5]},
}


Load = Callable[[TrialConfig], Baselines]


@pytest.fixture
def load(tiny_data: TaskData, tmp_path: Path) -> Load:
    """Loads baselines from the folder ``cache``, each time with a new object."""
    return lambda config: BaselineCache(tmp_path / "cache", tiny_data, CPU).load(config)


def test_baselines_are_measured_like_trials_and_read_back_the_same(
    load: Load, tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    config = tiny_config(MEASURED)
    fresh = load(config)
    networks, cache = baseline_networks(config), BaselineCache(tmp_path / "cache", tiny_data, CPU)
    models = [cache.network(network) for network in networks]
    for model, result in zip(models, fresh.results, strict=True):
        others = [Surrogate(other) for other in models if other is not model]
        for split in ("validation", "test"):
            expected = measure(model, tiny_data.split(split), split, config.robustness, others)
            assert [point for point in result.curves if point.split == split] == expected.curves
            assert result.boundary_distance[split] == expected.boundary_distance is not None
    assert load(config).results == fresh.results


def test_other_measurements_are_made_of_the_same_networks(
    load: Load, tiny_config: MakeConfig, trained: list[int]
) -> None:
    plain = load(tiny_config())
    for key, value in MEASURED.items():
        more = load(tiny_config({key: value}))
        assert more.results != plain.results
        assert more.accuracy("test") == plain.accuracy("test")
    assert len(trained) == 2


def test_what_cannot_be_measured_is_refused_before_any_training(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    small = tiny_data.test._replace(images=tiny_data.test.images[..., :3, :3])
    cache = BaselineCache(tmp_path / "cache", tiny_data._replace(test=small), CPU)
    with pytest.raises(ConfigError, match=r"^robustness\.frequency: "):
        cache.load(tiny_config({"robustness.boundary": {}, "robustness.frequency": True}))
    assert not (tmp_path / "cache").exists()


def test_edited_plugin_is_measured_again(
    load: Load, tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def attack(batch):\n    return lambda epsilon: batch.images * {}\n"
    (tmp_path / "edited_attack.py").write_text(source.format(1.0))
    monkeypatch.syspath_prepend(tmp_path)
    name = "edited_attack:attack"
    table = {name: {"max_epsilon": 0.2}}
    config = tiny_config({"robustness.attacks": table, "robustness.reference": {name: 0.2}})
    baseline = load(config).accuracy("test")
    assert baseline.robust_accuracy == baseline.clean_accuracy
    (tmp_path / "edited_attack.py").write_text(source.format("0.0"))
    monkeypatch.delitem(sys.modules, "edited_attack")
    importlib.invalidate_caches()
    baseline = load(config).accuracy("test")
    assert baseline.robust_accuracy < baseline.clean_accuracy


def test_changed_file_of_corruptions_is_measured_again(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stored"
    folder.mkdir()
    (folder / "contrast.npy").write_bytes(b"one")
    monkeypatch.setattr(baselines, "open_folder", lambda *_: None)
    measured: list[str] = []

    def counted(*arguments: Any) -> SplitMeasurements:
        measured.append(arguments[2])
        return measure(*arguments)

    monkeypatch.setattr(baselines, "measure", counted)
    corruptions = {"kinds": ["contrast"], "severities": [1], "folder": str(folder)}
    config = tiny_config({"robustness.corruptions": corruptions})
    network, cache = baseline_networks(config)[0], BaselineCache(tmp_path / "cache", tiny_data, CPU)
    for content in (b"one", b"one", b"changed"):
        if content != (folder / "contrast.npy").read_bytes():
            (folder / "contrast.npy").write_bytes(content)
        cache.result(network)
    assert measured == ["validation", "test"] * 2


def test_changes_by_gradients_are_computed_once_and_read_back_the_same(
    load: Load, tiny_config: MakeConfig, tiny_data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[Any, ...]] = []

    def counted(*arguments: Any) -> torch.Tensor:
        attack, _, _, epsilon, options = arguments
        computed.append((attack.name, epsilon, *options.values()))
        return precompute(*arguments)

    monkeypatch.setattr(baselines, "precompute", counted)
    fgsm, mifgsm = "transfer_fgsm", "transfer_mifgsm"
    for seed, steps in ((0, 2), (2, 2), (0, 3)):
        attacks = {fgsm: {}, mifgsm: {"max_epsilon": 0.1, "options": {"steps": steps}}}
        changes = {"robustness.attacks": attacks, "robustness.reference": {mifgsm: 0.1}}
        config = tiny_config({"seed": seed, **changes})
        for model, known in load(config).surrogates:
            keys = ((fgsm, 0.0), (mifgsm, 0.05), (mifgsm, 0.1))
            assert set(known) == {(name, s, epsilon) for name, epsilon in keys for s in SPLITS}
            for (name, split, epsilon), found in known.items():
                options = config.robustness.attacks[name].options
                again = ATTACKS.get(name), model, tiny_data.split(split), epsilon, options
                assert torch.equal(found, precompute(*again))
    own = [(fgsm, 0.0), *((mifgsm, epsilon, steps) for epsilon in (0.05, 0.1) for steps in (2, 3))]
    assert sorted(computed) == sorted(own * 4)  # of two networks and two splits


def half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def flipped(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": half,
    "empty": lambda whole: b"",
    "flipped": flipped,
    "zeros": lambda whole: bytes(len(whole)),
    "json": lambda whole: b'{"validation": 5}',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("pattern", "num_trained"),
    [
        ("baseline-1-????????????????.pt", 1),
        ("surrogate-*????.pt", 1),
        ("baseline-*.epochs.json", 1),
        ("surrogate-*.epochs.json", 1),
        ("baseline-*.curves.json", 0),
        ("surrogate-*.curves.json", 0),
        ("*.transfer_fgsm.pt", 0),
    ],
)
def test_damaged_file_is_built_again(
    pattern: str,
    num_trained: int,
    damage: str,
    load: Load,
    tiny_config: MakeConfig,
    tiny_data: TaskData,
    tmp_path: Path,
    trained: list[int],
) -> None:
    before = load(tiny_config())
    path = next(
        path
        for path in tmp_path.glob(f"cache/{pattern}")
        if "fgsm" not in path.name or "fgsm" in pattern
    )
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    trained.clear()
    after = load(tiny_config())
    for network in baseline_networks(tiny_config()):
        BaselineCache(tmp_path / "cache", tiny_data, CPU).network(network)
    assert len(trained) == num_trained
    assert after.results == before.results or num_trained  # but for seconds of training
    assert after.accuracy("test") == before.accuracy("test")
    for (_, known), (_, again) in zip(before.surrogates, after.surrogates, strict=True):
        assert all(torch.equal(again[name], known[name]) for name in known)
    assert path.read_bytes() == whole or path.suffix == ".json"


def test_weights_of_another_network_are_trained_again(
    tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path, trained: list[int]
) -> None:
    cache, networks = BaselineCache(tmp_path, tiny_data, CPU), baseline_networks(tiny_config())
    one, other = (cache.weights_file(network) for network in networks)
    whole = one.read_bytes()
    one.write_bytes(other.read_bytes())
    cache.network(networks[0])
    assert one.read_bytes() == whole
    assert len(trained) == 3
