"""One trial of the sweep: the partition is the learning rate. usage: sweep.py --folds N"""

import argparse
import json

import ray
from dagster_pipes import open_dagster_pipes
from demo_data import data_dir, read_points, write_whole
from fitting import Point, fit, loss


@ray.remote
def left_out(points: list[Point], fold: int, folds: int, learning_rate: float) -> float:
    """The loss on one fold, after training on the others."""
    training = [point for index, point in enumerate(points) if index % folds != fold]
    return loss(points[fold::folds], fit(training, learning_rate))


parser = argparse.ArgumentParser()
parser.add_argument("--folds", type=int, required=True)
folds = parser.parse_args().folds

with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    points = ray.put(read_points())
    rate = float(pipes.partition_key)
    losses = ray.get([left_out.remote(points, fold, folds, rate) for fold in range(folds)])
    result = {"learning_rate": rate, "loss": sum(losses) / folds}
    path = data_dir() / f"trial-{pipes.partition_key}.json"
    write_whole(path, json.dumps(result))
    pipes.report_asset_materialization(metadata={**result, "path": str(path)})
