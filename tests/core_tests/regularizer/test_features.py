from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from simreg_core.config.loading import absolute_paths
from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import RegularizationImages, TaskData, load_task
from simreg_core.errors import ConfigError
from simreg_core.regularizer.features import read_matrix
from simreg_core.regularizer.targets import TargetInput, make_target
from simreg_core.training.start import start
from tests.core_tests.conftest import MakeModule
from tests.core_tests.measuring import assert_refused, every_pair, run
from tests.core_tests.trained_networks import CPU, MakeConfig

NUM_STORED = 30
ROWS = torch.tensor([7, 0, 29, 12, 3])


def matrix() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(2.0, 1.0, (NUM_STORED, 6))


def target_input(path: Path, **changes: Any) -> TargetInput:
    images = torch.randint(256, (len(ROWS), 1, 4, 4), dtype=torch.uint8)
    source = RegularizationImages(images, None, ROWS, NUM_STORED)._replace(**changes)
    return TargetInput.of(source, RegularizerConfig(target=f"features:{path}"))


def write(path: Path, content: Any) -> Path:
    """A file of the kind that the suffix names."""
    match path.suffix:
        case ".npy":
            np.save(path, content)
        case ".npz":
            np.savez(path, **content)
        case ".parquet" if isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        case ".parquet":
            pq.write_table(pa.table(content), path)
        case _:
            path.write_bytes(content)
    return path


def columns(values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {f"unit{number}": column for number, column in enumerate(values.T)}


def lists(values: NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values.tolist(), kind or pa.list_(pa.float64()))


FORMATS: dict[str, tuple[str, Callable[[NDArray[Any]], Any]]] = {
    "npy": ("a.npy", lambda m: m),
    "npz": ("a.npz", lambda m: {"clip": m}),
    "npz with a name": ("a.npz", lambda m: {"ids": np.arange(9), "features": m}),
    "parquet of lists": ("a.parquet", lambda m: {"clip": lists(m)}),
    "parquet of arrays": ("a.parquet", lambda m: {"clip": lists(m, pa.list_(pa.float64(), 6))}),
    "parquet of columns": ("a.parquet", columns),
    "index of pandas": (
        "a.parquet",
        lambda m: pd.DataFrame(columns(m), index=np.arange(NUM_STORED)[::-1]),
    ),
}


@pytest.mark.parametrize(("name", "content"), FORMATS.values(), ids=FORMATS)
def test_matrix_is_read_from_every_format(
    name: str, content: Callable[[NDArray[Any]], Any], tmp_path: Path
) -> None:
    path = write(tmp_path / name, content(matrix()))
    np.testing.assert_array_equal(read_matrix(path), matrix())


@pytest.mark.parametrize("kind", [np.float16, ">f8", np.int32, np.uint8])
def test_target_is_the_similarity_of_the_rows_of_the_images(kind: Any, tmp_path: Path) -> None:
    values = (20 * matrix()).astype(kind)
    used = values[ROWS].astype(np.float64)
    values = np.where(np.isin(np.arange(NUM_STORED), ROWS)[:, None], values, values.max())
    target = make_target(target_input(write(tmp_path / "a.npy", values.astype(kind))))
    centred = used - used.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    first, second = every_pair(len(ROWS))
    expected = (unit[first] * unit[second]).sum(axis=1)
    found = target(first, second)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_changed_file_is_noticed_and_rows_of_other_images_are_not_read(tmp_path: Path) -> None:
    values = matrix()
    values[1] = np.nan
    path = write(tmp_path / "a.npy", values)
    before = make_target(target_input(path))(*every_pair(5))
    values[7] = values[0]
    (path := write(path, values.astype(np.float32)))
    after = make_target(target_input(path))(torch.tensor([0]), torch.tensor([1]))
    assert float(after) == pytest.approx(1)
    assert float(before[0]) < 0.9


def changed(row: int, value: float) -> NDArray[np.float64]:
    values = matrix()
    values[row, 2] = value
    return values


WRONG: dict[str, tuple[str, Any, str]] = {
    "rows": ("a.npy", matrix()[:9], "a.npy has 9 rows, .* 30 training images; "),
    "nan": ("a.npy", changed(12, np.nan), "expected finite numbers, found nan in row 12, column 2"),
    "too large": ("a.npy", changed(3, 1e300), r"found 1e\+300 in row 3, column 2"),
    "equal": ("a.npy", np.ones((30, 2)), "rows of all 5 regularization images are equal"),
    "objects": ("a.npy", np.array([[{}]], dtype=object), "NumPy file of numbers: Object arrays "),
    "objects in zip": ("a.npz", {"features": np.array([[{}]], dtype=object)}, "Object arrays "),
    "text": ("a.npy", np.array([["a"]]), r"expected a matrix of numbers .*, found <U1 \(1, 1\)"),
    "vector": ("a.npy", np.ones(30), r"found float64 \(30,\)"),
    "complex": ("a.npz", {"a": matrix() * 1j}, "found complex128"),
    "two arrays": ("a.npz", {"a": matrix(), "b": matrix()}, "called features; found: a, b$"),
    "no array": ("a.npz", {}, "called features; found: none$"),
    "damaged": ("a.npz", b"PK\3\4 no zip", "a.npz is not a readable NumPy file of numbers: "),
    "pickle": ("a.npy", b"\x80\x04K\x01.", "a.npy is not a readable NumPy file of numbers: "),
    "empty": ("a.npy", b"", "a.npy is not a readable NumPy file of numbers: "),
    "suffix": ("a.pt", b"", r"a.pt: unknown suffix; allowed: \.npy, \.npz, \.parquet$"),
    "missing": ("no.npy", None, "no.npy cannot be read: No such file"),
    "no parquet": ("a.parquet", b"PAR1", "a.parquet: not a readable Parquet file"),
    "ragged": ("a.parquet", {"a": [[1.0, 2.0], [1.0]]}, "a: .* one length, found 1 to 2 numbers"),
    "lists of texts": ("a.parquet", {"a": [["x"]]}, "a: expected lists of numbers, found list"),
    "null": ("a.parquet", {"a": [1.0, None]}, "a: expected numbers without nulls"),
    "mixed": (
        "a.parquet",
        {"image": [1], "clip": [[1.0]]},
        r"single column of lists, .* found: image \(int64\), clip \(list",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), WRONG.values(), ids=WRONG)
def test_unusable_matrix_is_one_line(name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write(path, content)
    with pytest.raises(ConfigError, match=rf"^regularizer\.target: .*{message}") as caught:
        make_target(target_input(path))
    assert "\n" not in str(caught.value)


# In a trial


def write_pixels(path: Path, dataset: str) -> Path:
    """The pixels of a dataset's images as their features."""
    images = load_dataset(dataset, color=False, size=8).images
    return write(path, images.flatten(1).numpy())


@pytest.mark.parametrize(
    "changes", [{}, {"regularizer.dataset": "natural"}, {"regularizer.shuffle_targets": True}]
)
def test_pixels_as_features_are_the_target_of_pixels(
    changes: Mapping[str, Any], tiny_config: MakeConfig, tiny_data: TaskData, tmp_path: Path
) -> None:
    path = write_pixels(tmp_path / "a.npy", str(changes.get("regularizer.dataset", "digits")))
    found = []
    for target in (f"features:{path}", "pixel_raw"):
        config = tiny_config({**changes, "regularizer.target": target})
        state = start(config, tiny_data, CPU)
        assert state.regularizer is not None
        found.append(state.regularizer.target(*every_pair(64)))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_trial_that_follows_features_equals_the_one_of_their_similarities(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    path = write_pixels(tmp_path / "a.npy", "digits")
    losses = []
    for target in (f"features:{path}", "pixel_raw", "pixel"):
        result = run(tiny_config({"regularizer.target": target}), tmp_path / "cache")
        assert result.columns["regularizer.target"] == target
        losses.append(result.epochs[-1].similarity_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != pytest.approx(losses[2], rel=0.1)


UNKNOWN_NUMBER = """
    from simreg_core.data.bundled import digits

    def silent(request):
        return digits(request)._replace(num_stored=None)

    def wrong(request):
        return digits(request)._replace(num_stored=9)
"""


def test_images_of_a_dataset_that_does_not_say_their_number_have_no_rows(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(UNKNOWN_NUMBER)
    path = write_pixels(tmp_path / "a.npy", "digits")
    changes = {"regularizer.target": f"features:{path}"}
    for name, message in (
        ("silent", r"regularizer\.target: .*'mine:silent', which does not say .*num_stored"),
        ("wrong", r"regularizer\.dataset: mine:wrong: expected 9 images .*, found 6"),
    ):
        config = tiny_config({**changes, "regularizer.dataset": f"mine:{name}"})
        assert_refused(config, tmp_path / "cache", message)
    config = tiny_config({**changes, "task.dataset": "mine:silent"})  # it loads them all
    assert load_task(config.task).num_stored == 1797


def test_path_of_a_matrix_becomes_absolute_and_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_trial: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {"regularizer.target": {"type": "categorical", "choices": ["pixel", "features:clip"]}}
    found = absolute_paths(tree)["regularizer.target"]["choices"]
    assert found == ["pixel", f"features:{tmp_path / 'clip'}"]
    for wrong in ("features", "features:", "pixel:"):
        message = rf"unknown target '{re.escape(wrong)}'; allowed: .*features:PATH"
        with pytest.raises(ValueError, match=message):
            TrialConfig.from_dict(tiny_trial({"regularizer.target": wrong}))
