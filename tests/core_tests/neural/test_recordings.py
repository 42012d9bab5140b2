from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from simreg_core.errors import ConfigError
from simreg_core.neural.recordings import Recordings, load_recordings, save_recordings

IMAGES = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
REPEATS = np.random.default_rng(0).poisson(2, (3, 4, 2)).astype(np.float32)


def _write(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        (IMAGES, 1),
        (IMAGES[:, None], 1),
        (IMAGES[..., None], 1),
        (np.repeat(IMAGES[:, None], 3, 1), 3),
        (np.repeat(IMAGES[..., None], 3, 3), 3),
    ],
    ids=["IHW", "I1HW", "IHW1", "I3HW", "IHW3"],
)
def test_images_of_every_layout_are_read(images: Any, channels: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "r.npz", {"images": images, "responses": REPEATS})
    found = load_recordings(path).images
    assert found.shape == (4, channels, 6, 5)
    assert all(np.array_equal(found[:, c].numpy(), IMAGES) for c in range(channels))


def test_repeats_and_their_trials_are_the_same_recordings(tmp_path: Path) -> None:
    repeats = load_recordings(_write(tmp_path / "a.npz", {"images": IMAGES, "responses": REPEATS}))
    order = np.random.default_rng(1).permutation(12)
    arrays = {
        "images": IMAGES,
        "responses": REPEATS.reshape(12, 2)[order],
        "image_index": np.tile(np.arange(4), 3)[order],
        "rates": np.zeros(3),
    }
    trials = load_recordings(_write(tmp_path / "b.npz", arrays))
    for recordings in (repeats, trials):
        assert recordings.neurons == ("0", "1")
        assert recordings.num_trials().tolist() == [3] * 4
        np.testing.assert_allclose(recordings.mean_responses(), REPEATS.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(
            recordings.noise_variance(), REPEATS.var(axis=0, ddof=1), rtol=1e-5
        )


def test_noise_variance_of_one_trial_is_unknown() -> None:
    recordings = Recordings(
        images=torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        trials=torch.tensor([[1.0], [3.0], [5.0]]),
        image_index=torch.tensor([0, 0, 1]),
        neurons=("a",),
    )
    variance = recordings.noise_variance()
    assert variance[0].item() == 2
    assert variance[1].isnan().item()


def test_saved_recordings_are_read_again(tmp_path: Path) -> None:
    saved = load_recordings(_write(tmp_path / "a.npz", {"images": IMAGES, "responses": REPEATS}))
    save_recordings(saved, tmp_path / "b.npz", {"rates": np.zeros(1)})
    found = load_recordings(tmp_path / "b.npz")
    for name in ("images", "trials", "image_index"):
        assert torch.equal(getattr(found, name), getattr(saved, name))


def _with(changes: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {"images": IMAGES, "responses": REPEATS, **changes}
    return {name: array for name, array in arrays.items() if array is not None}


NAN = REPEATS.copy()
NAN[1, 2, 1] = np.nan
ROWS = np.ones((3, 2), np.float32)


def _rows(index: Any) -> dict[str, Any]:
    return {"responses": ROWS, "image_index": np.array(index)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "'images' is missing"),
        ({"responses": None}, "'responses' is missing"),
        ({"images": IMAGES.astype(float)}, r"images: .* float64 \(4, 6, 5\)"),
        ({"images": IMAGES[0]}, r"images: .* \(6, 5\)"),
        ({"images": np.repeat(IMAGES[:, None], 2, 1)}, r"images: .* \(4, 2, 6, 5\)"),
        ({"images": IMAGES[:3]}, r"responses: .*\(3, 4, 2\)"),
        ({"responses": NAN}, r"responses: .*nan \(trial 6, neuron 1\)"),
        ({"responses": REPEATS.astype(float) * 1e300}, "responses: .*finite"),
        ({"responses": REPEATS.astype(str)}, r"responses: .*<U\d+"),
        ({"responses": ROWS[0]}, r"responses: .*\(2,\)"),
        ({"responses": ROWS}, "image_index: missing"),
        ({"image_index": np.arange(4)}, "image_index: only"),
        (_rows(range(4)), r"image_index: .*\(4,\)"),
        (_rows([0.0, 1.0, 2.0]), "image_index: .*float64"),
        (_rows([0, -1, 1]), "image_index: .*-1"),
        (_rows([0, 4, 1]), "image_index: .*found 4"),
        (_rows([0, 3, 1]), "image_index: .*image 2"),
    ],
)
def test_malformed_file_is_refused_by_its_array(
    changes: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / "r.npz", _with(changes))
    with pytest.raises(ConfigError, match=message) as caught:
        load_recordings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def _cut(path: Path) -> None:
    _write(path, _with({}))
    path.write_bytes(path.read_bytes()[:-40])


def _array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, ROWS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: None,
        lambda path: path.write_bytes(b"no archive"),
        _cut,
        _array,
        lambda path: _write(path, _with({"responses": np.array([object()], dtype=object)})),
    ],
)
def test_file_that_is_no_archive_is_one_line(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    damage(path)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: ")) as caught:
        load_recordings(path)
    assert "\n" not in str(caught.value)


# Parquet folders


@pytest.fixture
def folder(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset(num_train=3, side=6)


def _responses(folder: Path, columns: Mapping[str, Any]) -> Path:
    path = folder / "responses.parquet"
    pq.write_table(pa.table(dict(columns)), path)
    return path


def test_folder_with_a_column_per_neuron_names_the_neurons(folder: Path) -> None:
    columns = {"image": [2, 0, 1], "trial": [0, 0, 0], "a": [1.0, 2.0, 3.0], "b": [4, 5, 6]}
    _responses(folder, columns)
    recordings = load_recordings(folder)
    assert recordings.neurons == ("a", "b")
    assert recordings.images.shape == (3, 1, 6, 6)
    assert recordings.mean_responses().tolist() == [[2, 5], [3, 6], [1, 4]]


def test_folder_with_lists_of_responses_is_read(folder: Path) -> None:
    _responses(folder, {"image": [0, 1, 2], "response": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    recordings = load_recordings(folder)
    assert recordings.neurons == ("0", "1")
    assert recordings.trials.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0]}, "'image' is missing"),
        ({"image": [0, 1, 2]}, "'response'"),
        ({"image": [0, 1, 2], "a": ["x", "y", "z"]}, "a: .*string"),
        ({"image": [0, 1, 2], "a": [1.0, None, 2.0]}, "a: .*found 1 null$"),
        ({"image": [0, 1, 3], "a": [1.0, 2.0, 3.0]}, "image_index: .*0 to 2"),
        ({"image": [0, 1, 2], "response": [[1.0], [1.0, 2.0], [1.0]]}, "1 to 2"),
        ({"image": [0, 1, 2], "response": [["a"], ["b"], ["c"]]}, "lists of numbers"),
        ({"image": [0, 1, 2], "response": [[1.0], [None], [1.0]]}, "nan"),
        ({"image": [0, 1, 2], "response": [[], [], []]}, "expected"),
        (None, r"responses\.parquet: "),
    ],
)
def test_malformed_folder_is_refused(
    folder: Path, columns: Mapping[str, Any] | None, message: str
) -> None:
    if columns is not None:
        _responses(folder, columns)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recordings(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pipe_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.npz")
    (folder / "responses.parquet").unlink(missing_ok=True)
    os.mkfifo(folder / "responses.parquet")
    for path in (tmp_path / "r.npz", folder):
        with pytest.raises(ConfigError, match=r"(r\.npz|responses\.parquet): no regular file$"):
            load_recordings(path)
