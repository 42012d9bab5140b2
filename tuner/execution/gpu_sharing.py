"""Measures the GPU memory of a trial, to determine how many trials share a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import ConfigError, one_line
from tuner.execution.ray_session import Resources, run_tasks
from tuner.space.search_space import SearchSpace

if TYPE_CHECKING:  # heavy: imported where used
    import torch

    from simreg_core.data.images import Split

MOST_TRIALS = 16
_STEPS = 8  # enough for the capture of a CUDA graph and some replays
_EVALUATED_IMAGES = 1000  # at least a batch of validation


class GpuMemory(NamedTuple):
    """Memory of a GPU in bytes."""

    trial: int
    """Memory that the process of one trial takes, with its CUDA context."""
    total: int


def gpu_memory() -> GpuMemory:
    """The most memory that this process has taken on its GPU.

    What other processes use on the GPU counts as this one's, so the result is never too low.
    """
    import torch

    free, total = torch.cuda.mem_get_info()
    returned = torch.cuda.max_memory_reserved() - torch.cuda.memory_reserved()
    return GpuMemory(total - free + returned, total)


def trials_that_fit(memory: GpuMemory, cpu_limit: float) -> int:
    """Number of trials for one GPU: they take at most 90 % of its memory.

    The number is at least 1, and at most ``cpu_limit`` (for how many the CPUs suffice) and 16.
    """
    in_memory = 9 * memory.total // (10 * memory.trial)
    return max(1, min(in_memory, int(cpu_limit), MOST_TRIALS))


def count_by_memory(space: SearchSpace, cpu_limit: float) -> int:
    """Measure the largest trials of a space on a GPU, print the result, and return how many fit.

    Ray must be connected. See :func:`trials_that_fit`.

    Raises:
        ConfigError: a trial cannot be measured, for example because the GPU is too small for it.
    """
    configs = [config.to_dict() for config in largest_configs(space)]
    found: list[Any] = []
    one_gpu = Resources(cpus=min(1.0, cpu_limit), gpus=1.0, max_concurrent=1)
    calls = [(configs,)]
    run_tasks(_measure_on_gpu, calls, one_gpu, lambda _, value: found.append(value), frees_gpu=True)
    (memory,) = found
    if not isinstance(memory, GpuMemory):
        reason = memory if isinstance(memory, str) else one_line(memory)
        raise ConfigError(f"--trials-per-gpu auto: no trial measured: {reason}")
    count = trials_that_fit(memory, cpu_limit)
    trial, total = (size / 2**30 for size in memory)
    print(
        f"trials per GPU: {count} (a trial takes up to {trial:.1f} of {total:.1f} GiB; "
        f"the CPUs suffice for {max(1, int(cpu_limit))}; at most {MOST_TRIALS})",
        file=sys.stderr,
    )
    return count


def largest_configs(space: SearchSpace) -> list[TrialConfig]:
    """Trials of a space, one of which should need the most memory.

    Searched whole numbers (images, pairs, channels, pixels) have their highest value, and so has
    alpha, as 0 turns the regularizer off. Other numbers do not change the memory and have their
    first value. Other choices, such as the architecture, are tried one by one, each with the first
    choices of the other keys. If no such trial is valid, the result is those of
    :meth:`~tuner.space.search_space.SearchSpace.extreme_configs`.
    """
    largest: dict[str, Any] = {}
    choices: list[tuple[str, Any]] = []
    for key, distribution in space.search.items():
        values = [value for _, value in distribution.extremes()]
        if key == "regularizer.alpha" or all(isinstance(value, int) for value in values):
            largest[key] = max(values)
        else:
            largest[key] = values[0]
            if not all(isinstance(value, int | float) for value in values):
                choices += [(key, value) for value in values[1:]]
    configs: dict[str, TrialConfig] = {}
    for params in (largest, *({**largest, key: value} for key, value in choices)):
        with suppress(ValidationError):
            config = space.trial_config(params)
            configs[config.digest()] = config
    return list(configs.values()) or list(space.extreme_configs())


def _measure_on_gpu(configs: Sequence[dict[str, Any]]) -> GpuMemory | str:
    """The result of :func:`measure`, or why it failed: Ray would repeat what raises."""
    try:
        return measure(configs, "cuda")
    except Exception as err:
        return one_line(err)


def measure(
    configs: Sequence[dict[str, Any]], device: str, read: Callable[[], GpuMemory] = gpu_memory
) -> GpuMemory:
    """Train some steps of every trial and attack its network; then ``read`` the memory.

    One process runs the trials one after another, as a worker of a search does.
    """
    import torch

    for config in configs:
        _run_briefly(TrialConfig.from_dict(config), torch.device(device))
    return read()


def _run_briefly(config: TrialConfig, device: torch.device) -> None:
    """Do what a trial does, with all of its data but few steps and few attacked images."""
    from simreg_core.data.task import load_task
    from simreg_core.networks.network import freeze
    from simreg_core.robustness.cifar10c import open_folder
    from simreg_core.robustness.evaluate import PRECOMPUTE_BATCH, Surrogate
    from simreg_core.training.baseline_networks import surrogates_of
    from simreg_core.training.baselines import measure_splits
    from simreg_core.training.fit import fit
    from simreg_core.training.start import new_network, start

    data = load_task(config.task).to(device)
    state = start(config, data, device)
    # A tiny learning rate, so that no loss becomes NaN.
    training = config.training.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
    robustness = config.robustness
    # A trial may compute the results of attacks on the surrogate, in larger batches.
    num_attacked = max(robustness.batch_size, PRECOMPUTE_BATCH)
    robustness = robustness.model_copy(
        update={"batch_size": num_attacked, "num_epsilons": 2, "noise_draws": 1}
    )
    if robustness.boundary is not None:
        boundary = robustness.boundary.model_copy(update={"steps": 1, "repeats": 1})
        robustness = robustness.model_copy(update={"boundary": boundary})
    num_images = max(_EVALUATED_IMAGES, num_attacked)
    few = data._replace(
        train=_first(data.train, _STEPS * training.batch_size),
        validation=_first(data.validation, num_images),
        test=_first(data.test, num_images),
    )
    for _ in fit(state, few, training, seed=config.seed):
        pass
    surrogates = [
        Surrogate(freeze(new_network(config.model, data, device, seed=network.config.seed)))
        for network in surrogates_of(config)
    ]
    stored = open_folder(robustness.corruptions, config.task, data.test)
    measure_splits(state.kept_model(), few, robustness, surrogates, stored)


def _first(split: Split, count: int) -> Split:
    return split._replace(images=split.images[:count], labels=split.labels[:count])
