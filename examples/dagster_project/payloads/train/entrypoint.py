"""Train in shards, a Ray task each, and keep the mean of what they found."""

import json
import shutil
import socket
from typing import Any

import ray
from dagster_pipes import PipesContext, open_dagster_pipes
from demo_data import data_dir, read_points, write_whole
from fitting import Point, fit, loss


@ray.remote
def train_shard(points: list[Point]) -> dict[str, Any]:
    # Where Ray only pretends to have a GPU there is no driver either.
    device = "gpu" if ray.get_gpu_ids() and shutil.which("nvidia-smi") else "cpu"
    return {"line": fit(points, learning_rate=0.1), "device": device, "host": socket.gethostname()}


def main() -> None:
    pipes = PipesContext.get()
    points, shards = read_points(), pipes.get_extra("shards")
    task = train_shard.options(num_gpus=pipes.get_extra("gpus_per_shard"))
    results = ray.get([task.remote(points[shard::shards]) for shard in range(shards)])
    slopes, intercepts = zip(*(result["line"] for result in results), strict=True)
    line = sum(slopes) / shards, sum(intercepts) / shards
    error = loss(points, line)
    path = data_dir() / "model.json"
    write_whole(path, json.dumps({"line": line, "loss": error}))
    pipes.report_asset_materialization(
        metadata={
            "loss": error,
            "path": str(path),
            "devices": sorted({result["device"] for result in results}),
            "hosts": sorted({result["host"] for result in results}),
        }
    )


if __name__ == "__main__":
    with open_dagster_pipes():
        ray.init(address="auto")
        main()
