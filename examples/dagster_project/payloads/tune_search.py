"""A random search with Ray Tune; the autoscaler gives it the workers that its trials want."""

import json
import socket
from typing import Any

import ray
from dagster_pipes import open_dagster_pipes
from demo_data import data_dir, read_points, write_whole
from fitting import fit, loss
from ray import tune


def objective(config: dict[str, Any]) -> None:
    points = read_points()
    value = loss(points[::2], fit(points[1::2], config["learning_rate"]))
    tune.report({"loss": value, "host": socket.gethostname()})


with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    trials = pipes.get_extra("trials")
    results = tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(1e-3, 1.0)},
        tune_config=tune.TuneConfig(num_samples=trials, metric="loss", mode="min"),
        # Trials on other hosts leave their results here too.
        run_config=tune.RunConfig(storage_path=str(data_dir() / "tune"), verbose=0),
    ).fit()
    best = results.get_best_result()
    assert best.metrics is not None and best.config is not None
    found = {"learning_rate": best.config["learning_rate"], "loss": best.metrics["loss"]}
    path = data_dir() / "tuned.json"
    write_whole(path, json.dumps(found))
    pipes.report_asset_materialization(
        metadata={
            **found,
            "trials": len(results),
            "hosts": sorted({result.metrics["host"] for result in results if result.metrics}),
            "path": str(path),
        }
    )
