"""Search the hyperparameters of the similarity regularizer: Optuna proposes, Ray Tune runs."""

import importlib.util
import os
import sys


def _require_own_core() -> None:
    """Say what was found if another package takes the name of ours, as in the user's folder."""
    spec = importlib.util.find_spec("simreg_core")
    found = None if spec is None else spec.origin
    own = os.path.join(os.path.dirname(os.path.dirname(__file__)), "simreg_core", "__init__.py")
    if found is None or os.path.realpath(found) == os.path.realpath(own):
        return
    message = f"tuner: found another simreg_core, {found}; run simreg or change folder"
    if sys.argv[:1] == ["-m"]:  # python -m looks for the module
        print(message, file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(message)


_require_own_core()
