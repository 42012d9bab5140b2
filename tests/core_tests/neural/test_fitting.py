from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import neural_denoising
from simreg_core.errors import ConfigError
from simreg_core.networks import checkpoint
from simreg_core.neural import model as model_module
from simreg_core.neural.fitting import fit, noise_ceiling, split_images
from simreg_core.neural.model import (
    FitRecord,
    FittedModel,
    NeuralConfig,
    PredictiveNetwork,
    denoised_responses,
    load_model,
)
from simreg_core.neural.recordings import Recordings
from simreg_core.regularizer.responses import pearson

EVERY = torch.arange(60)
TINY = NeuralConfig(image_size=8, channels=3, first_kernel=3, epochs=2, batch_size=16)


def _images(number: int, seed: int = 0, side: int = 8) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (number, 1, side, side), dtype=np.uint8))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _recordings(number: int = 60, repeats: int = 2, neurons: int = 3) -> Recordings:
    """Neurons that see the mean of one half of the image, with Poisson noise."""
    images = _images(number)
    level = torch.linspace(0, 1, number)[torch.randperm(number, generator=_rng())]
    images[..., :4] = (images[..., :4] * level[:, None, None, None]).to(torch.uint8)
    half = images.to(torch.float32)[:, 0, :, :4].mean(dim=(1, 2))
    rates = (half / 20)[:, None].repeat(repeats, neurons)
    trials = torch.poisson(rates, generator=_rng())
    return Recordings(
        images=images,
        trials=trials,
        image_index=torch.arange(number).repeat(repeats),
        neurons=tuple("abcdefgh"[:neurons]),
    )


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return fit(_recordings(), TINY)


# The split


def test_splits_depend_on_the_seed_and_are_disjoint_and_together_all() -> None:
    images = _images(40)
    split = split_images(images, TINY)
    assert [len(part) for part in split] == [28, 6, 6]
    assert torch.cat(split).sort().values.tolist() == list(range(40))
    assert torch.equal(split.test, split_images(images, TINY).test)
    other = split_images(images, TINY.model_copy(update={"seed": 1}))
    assert not torch.equal(split.test, other.test)
    with pytest.raises(ConfigError, match="10 different images"):
        split_images(_images(10).repeat(5, 1, 1, 1), TINY)
    for part in split_images(images.repeat(2, 1, 1, 1), TINY):  # copies stay together
        assert set(part.tolist()) == {(i + 40) % 80 for i in part.tolist()}


# The noise ceiling


def test_ceiling_is_the_expected_correlation_of_the_truth() -> None:
    """A perfect model, the true rates, reaches the ceiling."""
    rng = torch.Generator().manual_seed(1)
    rates = torch.rand(4000, 4, generator=rng) * torch.tensor([0.5, 2.0, 8.0, 0.0])
    repeats = 3
    recordings = Recordings(
        images=torch.zeros(4000, 1, 1, 1, dtype=torch.uint8),
        trials=torch.poisson(rates.repeat(repeats, 1), generator=rng),
        image_index=torch.arange(4000).repeat(repeats),
        neurons=("a", "b", "c", "silent"),
    )
    reached = pearson(rates, recordings.mean_responses())
    ceiling = noise_ceiling(recordings, torch.arange(4000))
    torch.testing.assert_close(ceiling, reached, atol=0.04, rtol=0)
    # Closed form: rate variance a^2 / 12, noise variance a / 2 / R.
    for number, top in enumerate((0.5, 2.0, 8.0)):
        signal = top**2 / 12
        expected = math.sqrt(signal / (signal + top / 2 / repeats))
        assert ceiling[number].item() == pytest.approx(expected, abs=0.04)
    assert ceiling[3].item() == 0


def test_images_without_repeats_do_not_count_for_the_ceiling() -> None:
    assert noise_ceiling(_recordings(repeats=1), EVERY).isnan().all()
    both = _recordings()
    # Of the first 90 of 120 trials, images 0 to 29 have two.
    part = replace(both, trials=both.trials[:90], image_index=both.image_index[:90])
    torch.testing.assert_close(noise_ceiling(part, EVERY), noise_ceiling(both, EVERY[:30]))


# Fitting


def test_predictable_neurons_are_predicted() -> None:
    config = TINY.model_copy(update={"epochs": 40})
    model = fit(_recordings(number=300), config)
    assert model.test_correlation.min() > 0.5 * model.noise_ceiling.max() > 0.2
    assert model.weights.min() > 0.2


def test_fitting_stops_after_the_last_decay_keeps_the_best_and_records_every_epoch() -> None:
    config = TINY.model_copy(update={"epochs": 500, "patience": 2, "decays": 1})
    seen: list[FitRecord] = []
    model = fit(_recordings(), config, on_epoch=seen.append)
    assert tuple(seen) == model.records
    assert 0 < len(seen) < 500
    assert [record.epoch for record in seen] == list(range(1, len(seen) + 1))
    assert all(math.isfinite(record.train_loss) for record in seen)
    rates = [record.learning_rate for record in model.records]
    assert sorted(set(rates), reverse=True) == pytest.approx([0.01, 0.003])
    best = max(record.validation_correlation for record in model.records)
    assert model.validation_correlation.mean().item() == pytest.approx(best, abs=1e-6)


def test_model_depends_on_the_seed_and_leaves_the_global_generator_alone(
    model: FittedModel,
) -> None:
    before = torch.random.get_rng_state()
    again = fit(_recordings(), TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = model.network.state_dict()
    assert all(torch.equal(v, weights[name]) for name, v in again.network.state_dict().items())
    other = fit(_recordings(), TINY.model_copy(update={"seed": 1}))
    assert not torch.equal(other.network.mask, model.network.mask)


def test_responses_that_depend_on_no_image_are_refused() -> None:
    recordings = Recordings(
        images=_images(30),
        trials=torch.tensor([[1.0, 2.0]]).repeat(30, 1),
        image_index=torch.arange(30),
        neurons=("a", "b"),
    )
    with pytest.raises(ConfigError, match=r"^responses: "):
        fit(recordings, NeuralConfig())


def test_silent_neuron_gets_no_weight() -> None:
    recordings = _recordings()
    recordings.trials[:, 1] = 0
    model = fit(recordings, TINY.model_copy(update={"epochs": 10}))
    assert model.test_correlation[1].item() == 0
    assert model.weights[1].item() == 0 < model.weights[0].item()
    assert model.denoise(_images(9)).isfinite().all()


def test_diverged_fitting_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning_rate: the loss is"):
        fit(_recordings(), TINY.model_copy(update={"learning_rate": 1e18, "epochs": 9}))


def test_network_is_the_formula() -> None:
    config = TINY.model_copy(update={"layers": 1})
    network = PredictiveNetwork(config, 2).eval()
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        core = network.core(pixels).reshape(3, 3, 16).double()
        mask, features = network.mask.double(), network.features.double()
        expected = torch.einsum("bcp,mp,mc->bm", core, mask / 16, features) + network.bias
        torch.testing.assert_close(
            network(pixels).double(), torch.log1p(expected.exp()) + 1e-4, atol=1e-5, rtol=0
        )


# Predictions


def test_predictions_are_z_scores_over_the_training_images(model: FittedModel) -> None:
    recordings = _recordings()
    train = recordings.images[split_images(recordings.images, TINY).train]
    z = model.predict(train)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(dim=0), torch.ones(3), atol=1e-3, rtol=0)


def test_denoised_responses_are_weighted_where_weighting_is_on(model: FittedModel) -> None:
    images = _images(7, seed=3)
    weights = model.validation_correlation.clamp_min(0).float()
    torch.testing.assert_close(model.denoise(images), model.predict(images) * weights)
    off = replace(model, config=TINY.model_copy(update={"weighting": "none"}))
    assert torch.equal(off.denoise(images), model.predict(images))


def test_images_of_any_size_channels_and_number_are_predicted(model: FittedModel) -> None:
    for shape in ((3, 20, 14), (1, 5, 5)):
        prediction = model.predict(torch.zeros(4, *shape, dtype=torch.uint8))
        assert (prediction.shape, prediction.dtype) == ((4, 3), torch.float32)
    images = _images(300, seed=4)
    torch.testing.assert_close(
        model.predict(images)[290:], model.predict(images[290:]), atol=1e-3, rtol=0
    )


# Files


@pytest.fixture
def model_file(model: FittedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The saved model; the cache of arrays is empty."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))
    model.save(tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_saved_model_predicts_the_same(model: FittedModel, model_file: Path) -> None:
    loaded = load_model(model_file, key="key")
    assert torch.equal(loaded.denoise(_images(5)), model.denoise(_images(5)))
    for name in ("config", "neurons", "records"):
        assert getattr(loaded, name) == getattr(model, name)
    assert torch.equal(loaded.test_correlation, model.test_correlation)


@pytest.mark.parametrize("lacking", ["kind", "all", "file", "network", "config", "neurons"])
def test_file_that_is_no_whole_model_is_one_line(lacking: str, model_file: Path) -> None:
    if lacking == "file":
        model_file.unlink()
    elif lacking == "all":
        model_file.write_bytes(b"junk")
    else:
        payload = checkpoint.load(model_file)
        del payload[lacking]
        checkpoint.save(payload, model_file)
    for read in (load_model, partial(denoised_responses, images=_images(2))):
        with pytest.raises(ConfigError, match=r"^key: .*model\.pt ") as caught:
            read(model_file, key="key")
        assert "\n" not in str(caught.value)


# The cache


def test_responses_are_computed_once_for_the_same_images(
    model: FittedModel, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def counted(path: Path, **options: Any) -> FittedModel:
        loads.append(path)
        return load_model(path, **options)

    monkeypatch.setattr(model_module, "load_model", counted)
    images = _images(6)
    for _ in range(2):
        found = denoised_responses(model_file, images, "key")
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, model.denoise(images))
    assert loads == [model_file]
    wide = images.reshape(len(images), 1, images.shape[2] // 2, -1)  # the same bytes
    for number, others in enumerate((images.flip(0), wide), start=2):
        denoised_responses(model_file, others, "key")
        assert loads == [model_file] * number


def test_another_model_has_other_responses(model_file: Path) -> None:
    images = _images(6)
    first = denoised_responses(model_file, images, "key")
    fit(_recordings(), TINY.model_copy(update={"seed": 5})).save(model_file)
    assert not torch.equal(denoised_responses(model_file, images, "key"), first)


# What it is for


@pytest.mark.long
@pytest.mark.slow
def test_denoised_similarities_are_closer_to_the_truth_than_recorded_ones() -> None:
    found = neural_denoising.measure(seed=1)
    assert found.denoised > found.recorded + 0.05
    assert found.denoised_held_out > found.recorded_held_out + 0.05
