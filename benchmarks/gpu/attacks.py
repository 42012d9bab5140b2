"""Stage ``attacks``: batched attacks against single images, and a trial's whole evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import timing
from benchmarks.attacks import Sizes, comparisons, rates, trained
from benchmarks.gpu.data import QUICK_MODEL, load_cifar10, make_trial
from benchmarks.gpu.results import Recorder, Settings
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import freeze
from simreg_core.registry import ATTACKS
from simreg_core.robustness.evaluate import Surrogate, precompute
from simreg_core.training.baselines import measure_splits

_REPETITIONS = 3
_BOUNDARY = {"steps": 50, "num_images": 1000, "repeats": 5}  # published


def run(settings: Settings, recorder: Recorder) -> None:
    """Measure the attacks of the published protocol, then each against its plain style."""
    torch.set_num_threads(1)
    with recorder.attempt("evaluation of a trial"):
        _measure_evaluation(settings, recorder)
    full = Sizes({"base_channels": 64}, 10000, 1000, 5)
    sizes = Sizes(QUICK_MODEL, 200, 5, 2) if settings.quick else full
    with recorder.attempt("comparisons"):
        for name, variants in comparisons(None, settings.torch_device, sizes):
            if recorder.has_measured(name):
                continue
            warm_up = 0 if settings.quick else 1
            found = rates(variants, settings.torch_device, _REPETITIONS, warm_up=warm_up)
            numbers = [number for _, number in variants.values()]
            recorder.add(
                name,
                {
                    "batched, images/s": found["own"],
                    "one by one, images/s": found["plain"],
                    "ratio": [a / b for a, b in zip(found["own"], found["plain"], strict=True)],
                },
                f"{numbers[0]} images batched, {numbers[1]} one by one",
            )


def _measure_evaluation(settings: Settings, recorder: Recorder) -> None:
    data, device = load_cifar10(settings), settings.torch_device
    boundary = {**_BOUNDARY, "num_images": 4, "repeats": 1} if settings.quick else _BOUNDARY
    configs = {
        name: make_trial(
            settings, training={"learning_rate": 0.05}, regularizer={"alpha": 0.0}, robustness=own
        )
        for name, own in {"four attacks": {}, "with boundary": {"boundary": boundary}}.items()
    }
    plain = configs["four attacks"]
    model = freeze(trained(plain, data, device))
    source = freeze(trained(plain.model_copy(update={"seed": 1}), data, device))
    attack = ATTACKS.get("transfer_fgsm")
    directions = {
        (attack.name, name, 0.0): precompute(attack, source, data.split(name))
        for name in ("validation", "test")
    }
    surrogate = Surrogate(source, directions)

    def whole(config: TrialConfig, data: TaskData) -> Callable[[], object]:
        return lambda: measure_splits(model, data, config.robustness, [surrogate], None)

    number = len(data.validation.labels) + len(data.test.labels)
    for (name, config), repetitions in zip(configs.items(), (_REPETITIONS, 1), strict=True):
        seconds = timing.interleaved(
            {name: whole(config, data)}, device, repetitions, warm_up=repetitions > 1
        )
        note = f"{number} images of two splits"
        if config.robustness.boundary is not None:
            note += f"; {boundary['num_images']} images of each, {boundary['repeats']} repeats"
        recorder.add(f"evaluation of a trial, {name}", {"s": seconds[name]}, note)
