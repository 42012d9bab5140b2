from __future__ import annotations

from pathlib import Path

import pytest

from tuner.space.grid import design
from tuner.space.loading import load_space

FOLDER = Path(__file__).parents[2] / "search_spaces"
POSTER = FOLDER / "poster"
SPACES = sorted(FOLDER.rglob("*.yaml"))
PANELS = ("components", "cost", "curves", "datasets", "tradeoff")
PUBLISHED = {
    "cifar10": {("task", 10.0, 0.8), ("cifar100", 10.0, 0.8), ("imagenet", 10.0, 0.8)},
    "cifar100": {("task", 10.0, 0.8), ("cifar10", 10.0, 0.8), ("imagenet", 10.0, 0.8)},
    "mnist": {("task", 4.0, 0.2), ("fashion_mnist", 10.0, 0.8)},
    "fashion_mnist": {("task", 10.0, 0.8), ("mnist", 10.0, 0.4)},
}


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


@pytest.mark.parametrize("path", SPACES, ids=name_of)
def test_every_search_space_is_accepted_and_begins_with_its_question(path: Path) -> None:
    assert load_space(path).name == path.stem.removesuffix("_small")
    comment = path.read_text(encoding="utf-8").partition("\nname:")[0]
    assert "?" in comment
    assert all(line.startswith("#") for line in comment.splitlines())


@pytest.mark.parametrize("path", sorted(POSTER.glob("*.yaml")), ids=name_of)
def test_every_trial_of_the_poster_is_valid_and_has_several_seeds(path: Path) -> None:
    space = load_space(path)
    tuning = space.tuning
    assert tuning.sampler == "grid"
    trials = list(design(space.search, tuning.warm_starts, tuning.num_trials, tuning.seed))
    configs = [space.trial_config(params) for params in trials]
    seeds: dict[str, set[int]] = {}
    for config in configs:
        without = config.model_copy(update={"seed": 0}).digest()
        seeds.setdefault(without, set()).add(config.seed)
    assert min(len(group) for group in seeds.values()) >= 2
    assert len({tuple(sorted(group)) for group in seeds.values()}) == 1  # the same for each
    assert not space.baseline_varies()


@pytest.mark.parametrize("panel", PANELS)
def test_small_version_asks_the_same_with_little_work(panel: str) -> None:
    full, small = (load_space(POSTER / f"{panel}{size}.yaml") for size in ("", "_small"))
    assert small.search.keys() == full.search.keys()
    assert small.tuning.num_trials <= 24
    config, published = (next(space.extreme_configs()) for space in (small, full))
    assert (config.task.dataset, config.model.base_channels) == ("digits", 16)
    assert (published.task.dataset, published.model.base_channels) == ("cifar10", 64)
    assert published.training.epochs == 40


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_hyperparameters_are_tried_first(name: str) -> None:
    keys = [f"regularizer.{key}" for key in ("dataset", "alpha", "threshold", "batch_size")]
    starts = load_space(FOLDER / f"{name}.yaml").tuning.warm_starts
    found = {tuple(str(start[key]).partition(":")[0] for key in keys) for start in starts}
    assert found == {(*map(str, values), "16") for values in PUBLISHED[name]}
