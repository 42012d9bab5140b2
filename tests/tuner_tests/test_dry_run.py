"""What a dry run says of the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tuner_tests.spaces import Run, write_space

TASK = "{dataset: digits, image_size: 8, num_train: 128, num_validation: 64, num_test: 64}"


def _images(folder: Path, counts: dict[str, int]) -> Iterator[Path]:
    rng = np.random.default_rng(len(folder.name))
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            path = folder / name / f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
            yield path


def _run(folder: Path, dry_run: Callable[..., Run], images: str = "num_images: 64") -> list[str]:
    task = f"{{dataset: 'folder:{folder}', image_size: 8}}"
    space = write_space(folder.parent, (TASK, task), ("num_images: 64", images))
    run = dry_run(space)
    assert run.code == 0, run.errors
    lines = run.printed.splitlines()
    return lines[next(n for n, line in enumerate(lines) if line.startswith("data ")) :]


def test_classes_and_images_per_class_and_split_are_printed(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    root = tmp_path / "set"
    for split, factor in (("Training", 40), ("valid", 3), ("Testing", 5)):
        list(_images(root / split, {"cat": factor, "dog": 2 * factor}))
    (root / "Training" / "dog" / "notes.txt").touch()
    assert _run(root, dry_run) == [
        f"data         folder:{root}",
        "classes      2: cat, dog",
        "train        120 images: cat 40, dog 80",
        "validation   9 images: cat 3, dog 6",
        "test         15 images: cat 5, dog 10",
        "left out     1 file: 1 *.txt",
    ]


def test_classes_without_images_to_measure_on_are_named(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    root = tmp_path / "set"
    held_out = {"valid": {"cat": 3}, "test": {"dog": 3}}
    for split, counts in ({"train": {"cat": 40, "dog": 40}} | held_out).items():
        list(_images(root / split, counts))
    expected = "missing      no validation images of dog; no test images of cat"
    assert _run(root, dry_run)[-1] == expected


def test_many_classes_are_summarized(tmp_path: Path, dry_run: Callable[..., Run]) -> None:
    root = tmp_path / "set"
    counts = {f"c{number:03}": 2 + number % 3 for number in range(150)}
    list(_images(root / "train", counts))
    list(_images(root / "val", dict.fromkeys(counts, 1)))
    list(_images(root / "test", dict.fromkeys(counts, 2)))
    lines = _run(root, dry_run)
    assert lines[1:] == [
        "classes      150: c000, c001, c002, ..., c149",
        "train        450 images: 2 (c000) to 4 (c002) per class",
        "validation   150 images: 1 per class",
        "test         300 images: 2 per class",
    ]


def test_files_that_the_regularization_set_leaves_out_are_counted_too(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    root, other = tmp_path / "set", tmp_path / "others"
    for split in ("train", "test"):
        list(_images(root / split, {"a": 30, "b": 30}))
    list(_images(other, {"x": 70}))
    (other / "@eaDir").mkdir()
    (other / "@eaDir" / "0.png").touch()
    images = f"dataset: 'folder:{other}', num_images: 20"
    assert _run(root, dry_run, images)[-1] == f"left out of folder:{other} 1 file: 1 in @eaDir"


def test_targets_of_the_users_are_tried(
    tmp_path: Path, dry_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.eye(9))
    (tmp_path / "own_targets.py").write_text("def vector(source):\n    return source.pixels.nine\n")
    for target, found in {
        "features:rows.npy": f"{tmp_path / 'rows.npy'} has 9 rows, .* has 1,797 training images",
        "own_targets:vector": "own_targets:vector: .*no attribute 'nine'",
    }.items():
        settings = f"num_images: 64, target: '{target}'"
        run = dry_run(write_space(tmp_path, ("num_images: 64", settings)))
        assert run.code == 2
        assert re.search(rf"space\.yaml: trial\.regularizer\.target: {found}", run.errors)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(1797, 3)))
    settings = "num_images: 64, target: 'features:rows.npy'"
    assert dry_run(write_space(tmp_path, ("num_images: 64", settings))).code == 0
