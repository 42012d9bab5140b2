from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from simreg_core.data.registry import load_dataset
from simreg_core.neural import __main__
from simreg_core.neural.compare import correlations
from simreg_core.neural.model import load_model
from simreg_core.neural.recordings import load_recordings
from simreg_core.neural.simulate import simulate
from simreg_core.regularizer.gabor import GaborPopulation
from simreg_core.seeding import generator
from tests import oracles

TINY = ["--set", "image_size=8", "--set", "channels=2", "--set", "first_kernel=3"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Simulated, of 60 handwritten digits."""
    path = tmp_path / "recordings.npz"
    flags = ["--dataset", "digits", "--num-images", "60", "--num-neurons", "4"]
    assert __main__.main(["simulate", "--output", str(path), *flags, "--mean-count", "5"]) == 0
    return path


@pytest.fixture
def model(recordings: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    flags = ["--recordings", str(recordings), "--output", str(path), "--epochs", "3"]
    assert __main__.main(["fit", *flags, *TINY]) == 0
    return path


# The command line


def test_simulated_recording_holds_its_truth(recordings: Path) -> None:
    found = load_recordings(recordings)
    assert found.trials.shape == (120, 4)
    assert found.num_trials().tolist() == [2] * 60
    with np.load(recordings) as arrays:
        rates = arrays["rates"]
    np.testing.assert_allclose(rates.mean(axis=0), 5, rtol=1e-4)
    _, again = simulate(found.images, num_neurons=4, repeats=2, mean_count=5, seed=0)
    np.testing.assert_allclose(rates, again, rtol=1e-5)


def test_fit_writes_a_model_and_reports(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    printed = capsys.readouterr().out
    assert "test correlation of 4 neurons: median " in printed
    assert "noise ceiling: median " in printed
    fitted = load_model(model, key="--model")
    table = pq.read_table(model.with_suffix(".neurons.parquet"))
    assert table.column("neuron").to_pylist() == ["0", "1", "2", "3"]
    assert table.column("test_correlation").to_pylist() == fitted.test_correlation.tolist()
    assert table.column("weight").to_pylist() == fitted.weights.tolist()
    report = json.loads(model.with_suffix(".fit.json").read_text())
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3]
    assert report["config"]["channels"] == 2
    assert report["values"]["median"] == pytest.approx(float(fitted.test_correlation.quantile(0.5)))


@pytest.mark.parametrize("source", ["dataset", "recordings"])
def test_compare_writes_and_prints_similarities(
    source: str, model: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pairs.parquet"
    value = str(recordings) if source == "recordings" else "digits"
    flags = [f"--{source}", value, "--num-pairs", "50", "--num-images", "60"]
    capsys.readouterr()
    assert __main__.main(["compare", "--model", str(model), "--output", str(output), *flags]) == 0
    similarities = ["pixel_raw", "neural", "v1_gabor"]
    similarities += ["recorded"] if source == "recordings" else []
    table = pq.read_table(output)
    names = ["first", "second", *(f"{name}_similarity" for name in similarities)]
    assert table.column_names == names
    assert len(table) == 50
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    expected = np.corrcoef(columns["pixel_raw_similarity"], columns["neural_similarity"])[0, 1]
    assert f"pixel_raw neural    {expected:6.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("", "command"),
        ("fit", "--recordings, --output"),
        ("fit --recordings none.npz --output m", "none.npz: "),
        ("fit --recordings x --output m --set chanels=2", "'channels'?"),
        ("fit --recordings x --output m --epochs 0", "--epochs: "),
        ("fit --recordings x --output m --set kernel=4", "kernel"),
        ("fit --recordings x --output .", "--output: "),
        ("compare --model no.pt --dataset digits --output p", "--model: no.pt"),
        ("compare --dataset digits --output p --target label", "--target: expected two or more"),
        ("compare --dataset digits --output p --target neural", "--target: "),
        ("compare --dataset natural --output p --target label --target pixel", "needs labels"),
        ("simulate --output r --dataset nowhere", "--dataset: "),
        ("simulate --output file/r.npz --dataset digits --num-images 5", "--output: "),
        ("simulate --output r --num-neurons 9999", "9999"),
        ("simulate --output r --mean-count -1", "--mean-count: "),
    ],
)
def test_bad_input_is_one_line(
    flags: str,
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert __main__.main(flags.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("simreg_core.neural")
    assert found in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_negative_responses_are_one_line(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(recordings) as arrays:
        changed = {**arrays, "responses": arrays["responses"] - 100}
    np.savez(recordings, **changed)
    flags = ["--recordings", str(recordings), "--output", str(tmp_path / "m.pt"), *TINY]
    capsys.readouterr()
    assert __main__.main(["fit", *flags]) == 2
    assert f"{recordings}: responses: " in capsys.readouterr().err
    assert __main__.main(["fit", *flags, "--loss", "mse", "--epochs", "1"]) == 0


# Comparison and simulation


def test_any_targets_of_a_dataset_are_compared(model: Path, tmp_path: Path) -> None:
    images = load_dataset("digits", color=False, size=16).images
    np.save(tmp_path / "a.npy", images.flatten(1).numpy())
    targets = [f"features:{tmp_path / 'a.npy'}", "pixel_raw", "neural", "v1_gabor"]
    flags = [word for name in targets for word in ("--target", name)]
    flags += ["--dataset", "digits", "--image-size", "16", "--num-images", "60", "--seed", "3"]
    output = tmp_path / "pairs.parquet"
    assert __main__.main(["compare", "--output", str(output), "--model", str(model), *flags]) == 0
    table = pq.read_table(output).to_pydict()
    chosen = images[torch.randperm(len(images), generator=generator(3, "images"))[:60]]
    fitted = load_model(model, key="--model")
    vectors = (chosen, chosen, fitted.denoise(chosen), GaborPopulation().responses(chosen))
    pairs = list(zip(table["first"], table["second"], strict=True))
    assert all(i < j for i, j in pairs)
    for name, vector in zip(targets, vectors, strict=True):
        values = vector.flatten(1).double().numpy()
        centred = values - values.mean(axis=0)
        expected = [oracles.cosine(centred[i], centred[j]) for i, j in pairs]
        np.testing.assert_allclose(table[f"{name}_similarity"], expected, atol=1e-4)


def test_correlation_with_a_constant_target_is_undefined() -> None:
    columns = {"a": torch.tensor([0.1, 0.5, 0.3]), "b": torch.tensor([0.3] * 3)}
    columns["c"] = -columns["a"]
    found = correlations(columns)
    assert found == {("a", "b"): None, ("a", "c"): pytest.approx(-1), ("b", "c"): None}


def test_simulated_counts_have_the_rates_as_mean_and_variance() -> None:
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    )
    recordings, rates = simulate(images, num_neurons=5, repeats=4000, mean_count=3, seed=1)
    torch.testing.assert_close(recordings.mean_responses().float(), rates, atol=0.25, rtol=0)
    ratio = recordings.noise_variance().sum() / rates.sum()
    assert ratio.item() == pytest.approx(1, abs=0.02)
