"""A hyper-parameter sweep with Ray Tune: 10 trials at once want 10 CPUs, and the cluster has none.

Run by `ray submit`; the autoscaler turns the demand into Slurm jobs. Prints the result table and
leaves the times of demand and first task for timeline.py.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from typing import Any

import numpy as np
import ray
from ray import tune

TRIALS = 10
EPOCHS = 15


def train(config: dict[str, Any]) -> None:
    """Fit a logistic regression by gradient descent and report its loss on unseen data."""
    random = np.random.default_rng(0)
    weights = random.normal(size=20)
    features = random.normal(size=(4000, 20))
    labels = (features @ weights + random.normal(scale=2.0, size=4000) > 0).astype(float)
    fitted = np.zeros(20)
    started = time.time()
    for _ in range(EPOCHS):
        for batch in range(0, 3000, 100):
            x, y = features[batch : batch + 100], labels[batch : batch + 100]
            error = 1 / (1 + np.exp(-x @ fitted)) - y
            fitted -= config["learning_rate"] * (x.T @ error / 100 + config["decay"] * fitted)
        time.sleep(0.4)  # a real epoch takes a while
        guess = np.clip(1 / (1 + np.exp(-features[3000:] @ fitted)), 1e-9, 1 - 1e-9)
        unseen = labels[3000:]
        loss = -np.mean(unseen * np.log(guess) + (1 - unseen) * np.log(1 - guess))
        tune.report({"loss": float(loss), "host": socket.gethostname(), "started": started})


def main(times_path: str) -> None:
    ray.init(log_to_driver=False)
    demand = time.time()
    with tempfile.TemporaryDirectory(dir=os.path.expanduser("~")) as storage:
        results = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={
                "learning_rate": tune.loguniform(1e-2, 10),
                "decay": tune.loguniform(1e-5, 1e-1),
            },
            tune_config=tune.TuneConfig(
                num_samples=TRIALS, metric="loss", mode="min", max_concurrent_trials=TRIALS
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        ).fit()
        rows = sorted(
            (r.metrics["loss"], r.config["learning_rate"], r.config["decay"], r.metrics["host"])
            for r in results
        )
        first_task = min(r.metrics["started"] for r in results)
    print(f"{'loss':>8} {'learning rate':>14} {'decay':>10}  host")
    for loss, rate, decay, host in rows:
        print(f"{loss:8.4f} {rate:14.4f} {decay:10.2e}  {host}")
    with open(times_path, "w") as file:
        json.dump({"demand": demand, "first_task": first_task}, file)


if __name__ == "__main__":
    main(sys.argv[1])
