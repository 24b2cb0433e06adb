"""What the tests run: the reference document's training, and a plain script."""

from __future__ import annotations

from pathlib import Path

ENTRYPOINT = """
import socket

import ray
from dagster_pipes import PipesContext, open_dagster_pipes


@ray.remote(num_gpus=1)
def train_shard(config: dict[str, str]) -> dict[str, float]:
    return {"loss": 0.01, "accuracy": 0.98, "host": socket.gethostname()}


def main() -> None:
    context = PipesContext.get()
    context.log.info("Launching Ray jobs...")
    handles = [train_shard.remote({"shard": i}) for i in range(4)]
    results = ray.get(handles)
    context.report_asset_materialization(
        metadata={
            "shards": len(results),
            "max_accuracy": max(r["accuracy"] for r in results),
            "experiment": context.get_extra("experiment"),
            "hosts": sorted({r["host"] for r in results}),
        }
    )
    context.log.info("Training complete")


if __name__ == "__main__":
    with open_dagster_pipes():
        ray.init(address="auto")
        main()
"""

PLAIN = """
import os
import sys

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    if "fail" in sys.argv:
        raise ValueError("no such luck")
    if "leave" in sys.argv:
        os._exit(0)
    import beside

    pipes.report_asset_materialization(
        metadata={"arguments": sys.argv[1:], "greeting": os.environ["GREETING"],
                  "beside": beside.WORD, "host": os.uname().nodename}
    )
"""


def write_payloads(folder: Path) -> None:
    """``ray_jobs/train_model`` with ``train.entrypoint``, ``plain.py`` and ``beside.py``."""
    package = folder / "ray_jobs" / "train_model" / "train"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "entrypoint.py").write_text(ENTRYPOINT)
    (folder / "plain.py").write_text(PLAIN)
    (folder / "beside.py").write_text('WORD = "here"\n')
