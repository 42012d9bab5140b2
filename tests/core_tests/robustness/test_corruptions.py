from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn

from simreg_core.registry import CORRUPTIONS
from simreg_core.robustness.attack import AttackInput, prepare
from simreg_core.robustness.corruptions import corruption_attack
from simreg_core.seeding import generator
from tests.core_tests.measuring import corrupt

KINDS = tuple(CORRUPTIONS.own)

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "elastic_transform")
# In CIFAR-10-C, too, saturation first falls and then rises, and elastic transforms change kind.
GROWING = [kind for kind in KINDS if kind not in ("saturate", "elastic_transform")]


def _images(side: int = 16, channels: int = 3, batch: int = 12) -> Tensor:
    """Smooth coloured shapes under some noise."""
    rng = np.random.default_rng(0)
    fields = rng.uniform(0, 255, (batch, channels, side, side))
    smooth = scipy.ndimage.gaussian_filter(fields, (0, 0, side / 8, side / 8), mode="wrap")
    smooth = (smooth - smooth.mean()) / smooth.std() * 45 + 120 + rng.normal(0, 5, smooth.shape)
    return torch.from_numpy(smooth.clip(0, 255).astype(np.uint8))


def _corrupt(images: Tensor, kind: str, severity: int, seed: int = 0) -> Tensor:
    return corrupt(images, kind, severity, generator(seed, kind))


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_as_an_attack_it_is_the_function_rounded_with_the_same_draws(kind: str) -> None:
    images = _images() / 255
    batch = AttackInput(
        images, torch.zeros(12, dtype=torch.int64), generator(3, kind), nn.Identity()
    )
    perturbation = prepare(corruption_attack(kind), batch)
    function = CORRUPTIONS.own[kind].function
    for severity in (4, 1, 2, 3, 5):  # whichever came before
        direct = function(images, severity, generator(3, kind))
        rounded = (direct.clamp(0, 1) * 255).round() / 255
        assert torch.equal(perturbation(severity), rounded)


@pytest.mark.parametrize("side", [4, 8, 32, 40])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_stay_images_of_their_shape(kind: str, channels: int, side: int) -> None:
    images = _images(side, channels, batch=3)
    before = images.clone()
    for severity in (1, 5):
        corrupted = _corrupt(images, kind, severity)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == torch.uint8
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
@pytest.mark.parametrize("kind", GROWING)
def test_distance_grows_with_severity(kind: str, channels: int) -> None:
    images = _images(32, channels)
    distances = [_distance(_corrupt(images, kind, s), images) for s in range(1, 6)]
    assert distances[0] > 0
    assert all(a <= b for a, b in itertools.pairwise(distances))
    assert distances[4] > 1.3 * distances[0]


@pytest.mark.parametrize("kind", KINDS)
def test_random_kinds_and_no_others_depend_on_the_generator(kind: str) -> None:
    images = _images()
    corrupted = _corrupt(images, kind, 4)
    assert torch.equal(corrupted, _corrupt(images, kind, 4))
    parts = torch.cat([_corrupt(part, kind, 4) for part in images.split(5)])
    for other in (_corrupt(images, kind, 4, seed=1), parts):
        assert torch.equal(corrupted, other) == (kind not in RANDOM)
    same = images[:1].expand(4, -1, -1, -1)
    assert len(torch.unique(_corrupt(same, kind, 5), dim=0)) == (4 if kind in RANDOM else 1)


@pytest.mark.parametrize(
    "kind", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"]
)
def test_uniform_images_have_nothing_to_blur(kind: str) -> None:
    images = torch.full((2, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(_corrupt(images, kind, 5), images)


def test_gaussian_noise_has_its_distribution() -> None:
    images = torch.full((20, 3, 32, 32), 128, dtype=torch.uint8)
    noise = (_corrupt(images, "gaussian_noise", 1).double() - 128) / 255
    assert float(noise.mean()) == pytest.approx(0, abs=1e-3)
    assert float(noise.std()) == pytest.approx(0.04, rel=0.02)


def test_shot_noise_has_the_variance_of_its_photons() -> None:
    images = torch.full((20, 3, 32, 32), 51, dtype=torch.uint8)
    noisy = _corrupt(images, "shot_noise", 4).double() / 255
    assert float(noisy.mean()) == pytest.approx(0.2, rel=0.01)
    assert float(noisy.var()) == pytest.approx(0.2 / 75, rel=0.03)


def test_impulse_noise_hits_its_share_of_the_values() -> None:
    images = torch.full((20, 3, 32, 32), 128, dtype=torch.uint8)
    noisy = _corrupt(images, "impulse_noise", 5)
    assert float((noisy != 128).double().mean()) == pytest.approx(0.07, rel=0.05)
    assert float((noisy == 255).double().mean()) == pytest.approx(0.035, rel=0.1)
    assert set(noisy.unique().tolist()) == {0, 128, 255}


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_blur_is_scipys(severity: int) -> None:
    images = _images(32)
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = scipy.ndimage.gaussian_filter(
        images.numpy().astype(float), (0, 0, sigma, sigma), mode="nearest", truncate=4
    )
    difference = _corrupt(images, "gaussian_blur", severity).numpy() - expected
    assert np.abs(difference).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
def test_brightness_moves_the_largest_channel_and_keeps_the_ratios(channels: int) -> None:
    images = _images(16, channels).clamp(60, 170)
    bright = _corrupt(images, "brightness", 3).double()
    grown = bright.amax(dim=1) - images.double().amax(dim=1)
    torch.testing.assert_close(grown, torch.full_like(grown, 0.15 * 255), atol=0.51, rtol=0)
    ratio = bright / bright.amax(dim=1, keepdim=True)
    expected = images.double() / images.double().amax(dim=1, keepdim=True)
    torch.testing.assert_close(ratio, expected, atol=0.01, rtol=0)
    black = torch.zeros(1, channels, 4, 4, dtype=torch.uint8)
    assert _corrupt(black, "brightness", 5).unique().tolist() == [76]


def test_contrast_shrinks_the_distance_to_the_mean() -> None:
    images = _images(16, 3)
    low = _corrupt(images, "contrast", 5).double()
    means = images.double().mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(low, means + 0.15 * (images - means), atol=0.51, rtol=0)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "grey in color"])
def test_saturating_grey_images_is_the_identity(channels: int) -> None:
    images = _images(16, 1).expand(-1, channels, -1, -1)
    for severity in range(1, 6):
        assert torch.equal(_corrupt(images, "saturate", severity), images)


def test_saturation_keeps_the_value_and_scales_the_rest() -> None:
    images = torch.tensor([200, 100, 150], dtype=torch.uint8)[None, :, None, None]
    images = images.expand(1, 3, 4, 4)
    assert _corrupt(images, "saturate", 1)[0, :, 0, 0].tolist() == [200, 170, 185]
    assert _corrupt(images, "saturate", 4)[0, :, 0, 0].tolist() == [200, 0, 100]


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
def test_jpeg_is_pillows(channels: int) -> None:
    images = _images(16, channels, batch=2)
    found = _corrupt(images, "jpeg_compression", 2)
    for image, ours in zip(images, found, strict=True):
        array = image.permute(1, 2, 0).numpy()
        stream = io.BytesIO()
        Image.fromarray(array if channels == 3 else array[..., 0]).save(stream, "JPEG", quality=65)
        expected = np.array(Image.open(stream)).reshape(16, 16, channels)
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), expected)


def test_motion_blur_smears_a_point_along_one_line_to_one_side() -> None:
    images = torch.zeros(30, 1, 33, 33, dtype=torch.uint8)
    images[:, :, 16, 16] = 255
    for image in _corrupt(images, "motion_blur", 5)[:, 0].double():
        rows, columns = image.nonzero(as_tuple=True)
        weights = image[rows, columns]
        assert float(weights.sum()) == pytest.approx(255, rel=0.03)
        assert int(columns.max()) <= 17  # light comes from the right only
        dy, dx = ((weights * (at - 16)).sum() / weights.sum() for at in (rows, columns))
        assert abs(float(dy)) <= -float(dx) + 0.1  # within 45 degrees


def test_elastic_transform_without_displacement_is_affine() -> None:
    """Severity 1 has no displacement field: a plane stays a plane away from the rim."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    plane = (20 + 3 * x + 2 * y).to(torch.uint8)[None, None].expand(5, 1, -1, -1)
    moved = _corrupt(plane, "elastic_transform", 1)[:, 0, 8:24, 8:24].double().flatten(1).T
    inner = torch.stack([torch.ones_like(x), x, y])[:, 8:24, 8:24].double().flatten(1).T
    fitted = inner @ torch.linalg.lstsq(inner, moved).solution
    assert float((moved - fitted).abs().max()) < 0.6  # rounding
    assert not torch.equal(moved[:, 0], moved[:, 1])
    assert float((moved[:, 0] - plane[0, 0, 8:24, 8:24].flatten()).abs().max()) > 2
