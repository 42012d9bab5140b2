"""Device, driver, versions and clocks: the head of the tables."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

import torch

_QUERY = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw")


def conditions(device: str) -> str:
    """One line about the machine; does not initialise CUDA in this process."""
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    cores = f"{len(os.sched_getaffinity(0))} CPU cores"
    found = gpu_state() if device == "cuda" else {}
    if not found:
        name = "CUDA device (no nvidia-smi)" if device == "cuda" else platform.machine()
        return f"{name}, {software}, {cores}"
    return (
        f"{found['name']}, driver {found['driver_version']}, {software}, {cores}, "
        f"highest SM clock {found['clocks.max.sm']}, memory clock {found['clocks.mem']}"
    )


def gpu_state() -> dict[str, str]:
    """Names and values from ``nvidia-smi`` of the first GPU; empty if it cannot be had."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = found.stdout.strip().splitlines()[0].split(", ")
    return dict(zip(_QUERY, values, strict=True)) if len(values) == len(_QUERY) else {}
