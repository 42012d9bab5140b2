"""NVIDIA's MPS, which lets the kernels of several processes run on a GPU at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CONTROL = "nvidia-cuda-mps-control"
_PATIENCE = 30.0  # seconds
_TRIAL = "import torch; print(float(torch.ones(8, device='cuda').sum()))"


class MpsUnavailableError(RuntimeError):
    """MPS cannot be used; the message says why."""


def _environment(out: str) -> dict[str, str]:
    """Where the daemon of an output folder is: a short path, because it holds sockets."""
    number = zlib.crc32(out.encode())
    folder = Path(tempfile.gettempdir()) / f"simreg-mps-{number:08x}"
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}


@contextmanager
def mps(out: str) -> Iterator[None]:
    """Processes that are started in the block share the GPU through MPS.

    Raises:
        MpsUnavailableError: it does not start, or a process cannot use the GPU under it.
    """
    if shutil.which(_CONTROL) is None:
        raise MpsUnavailableError(f"no {_CONTROL} on this machine")
    own = _environment(out)
    Path(own["CUDA_MPS_PIPE_DIRECTORY"]).mkdir(exist_ok=True)
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        _checked([_CONTROL, "-d"])
        _checked([sys.executable, "-c", _TRIAL])
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        stop_mps(out)


def stop_mps(out: str) -> None:
    """Stop the daemon that :func:`mps` started, also one that a killed process left behind."""
    own = _environment(out)
    folder = Path(own["CUDA_MPS_PIPE_DIRECTORY"])
    if not folder.is_dir():
        return
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [_CONTROL], input="quit -t 5\n", env={**os.environ, **own}, text=True, timeout=20
        )
    shutil.rmtree(folder, ignore_errors=True)


def _checked(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.CalledProcessError as err:
        lines = (err.stderr or err.stdout).strip().splitlines() or [f"exit code {err.returncode}"]
        raise MpsUnavailableError(f"{command[0]}: {lines[-1]}") from err
    except (OSError, subprocess.SubprocessError) as err:
        raise MpsUnavailableError(f"{command[0]}: {err}") from err
