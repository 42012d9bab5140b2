"""What the process that works on a result folder leaves there to be seen: its lock, its last words.

``driver.json`` is for people and for programs that show how far a search is; nothing is resumed
from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simreg_core import locks

DRIVER_FILE = "driver.json"
LOCK_FILE = ".driver.lock"


def is_held(folder: Path) -> bool:
    """Whether a process works on the result folder now."""
    return locks.is_held(folder / LOCK_FILE)


def read_driver(folder: Path) -> dict[str, Any]:
    """What the last process that worked on the folder said; empty if none has."""
    try:
        said = json.loads((folder / DRIVER_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
