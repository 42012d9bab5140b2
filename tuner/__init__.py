"""Search the hyperparameters of the similarity regularizer: Optuna proposes, Ray Tune runs."""
