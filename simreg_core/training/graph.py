"""Training steps as one CUDA graph.

A step of a small network is some hundred kernels that take microseconds each, so the GPU waits for
Python to launch them. A graph launches all of them at once. It is captured once and replayed for
every step of every epoch: draws, learning rate and measurements lie in buffers at fixed addresses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from simreg_core.training.steps import Draws, Step, StepResult

_log = logging.getLogger(__name__)

Body = Callable[[], None]
Capture = Callable[[Body], Body]
"""From work without arguments to a function that repeats it; raises RuntimeError on failure."""

_WARM_UP = 3
"""Eager steps before the capture: they create the optimizer's momentum and load kernels."""
_CAPTURING = threading.Lock()


def capture_cuda_graph(body: Body) -> Body:
    """Capture the work that ``body`` puts on the current CUDA stream; captures, does not run it."""
    graph = torch.cuda.CUDAGraph()
    random = torch.cuda.default_generators[torch.cuda.current_device()]
    spare = random.clone_state()
    # One capture at a time in a process; other threads may use the GPU meanwhile.
    with _CAPTURING:
        try:
            with torch.cuda.graph(
                graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
            ):
                body()
        except RuntimeError:
            # The generator is still in capture, and would refuse all draws of attacks.
            random.graphsafe_set_state(spare)
            raise
    return graph.replay


class GraphSteps:
    """Runs the steps of epochs, all with the same shapes, by replaying one captured step.

    The first steps run eagerly and count as training, so the result is that of eager steps. If the
    capture fails, all steps run eagerly, after a warning.

    Args:
        step: One training step. It must not wait for the device, and must read and write
            persistent state (weights, statistics, learning rate) in place.
        capture: Replaces CUDA's capture in tests.
    """

    def __init__(self, step: Step, *, capture: Capture = capture_cuda_graph) -> None:
        self.step = step
        self.capture = capture
        self.is_captured = False
        self._replay: Body | None = None
        self._num_eager = 0
        self._draws: Draws | None = None
        self._results: StepResult | None = None
        self._position = torch.zeros(1, dtype=torch.int64)
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, draws: Draws) -> StepResult:
        """Run S >= 1 steps; their results, stacked, are valid until the next call."""
        with self._on_own_stream(draws.images.device):
            if self._draws is None:
                self._allocate(draws)
            else:
                for value, buffer in zip(draws, self._draws, strict=True):
                    buffer.copy_(value)
            self._position.zero_()
            for _ in range(len(draws.images)):
                if self._replay is None and self._num_eager == _WARM_UP:
                    self._replay = self._captured()
                if self._replay is None:
                    self._next_step()
                    self._num_eager += 1
                else:
                    self._replay()
        assert self._results is not None
        return self._results

    def _allocate(self, draws: Draws) -> None:
        """Buffers for the draws of an epoch; those for results follow with the first result."""
        self._draws = Draws(*(value.clone() for value in draws))
        self._position = self._position.to(draws.images.device)

    def _next_step(self) -> None:
        """The step whose number is in ``_position``, on the device."""
        assert self._draws is not None
        at = self._position
        found = self.step(Draws(*(values.index_select(0, at)[0] for values in self._draws)))
        if self._results is None:
            number = len(self._draws.images)
            self._results = StepResult(*(v.new_zeros((number, *v.shape)) for v in found))
        for value, buffer in zip(found, self._results, strict=True):
            buffer.index_copy_(0, at, value[None])
        at += 1

    def _captured(self) -> Body:
        try:
            replay = self.capture(self._next_step)
        except RuntimeError as err:
            reason = str(err).strip().partition("\n")[0]
            _log.warning("training steps run eagerly, without a CUDA graph: %s", reason)
            return self._next_step
        self.is_captured = True
        return replay

    def _on_own_stream(self, device: torch.device) -> AbstractContextManager[object]:
        """All steps share a stream of their own: the default stream cannot be captured."""
        if device.type != "cuda":
            return nullcontext()
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        return _after_current(self._stream)


@contextmanager
def _after_current(stream: torch.cuda.Stream) -> Iterator[None]:
    """Make ``stream`` the current one; it waits for the one before, which then waits for it."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)
