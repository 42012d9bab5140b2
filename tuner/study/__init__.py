"""The Optuna study: sampler, storage, and the folder it lives in."""
