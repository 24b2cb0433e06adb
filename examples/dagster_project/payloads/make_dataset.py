"""Write a dataset: points of y = 3x + 1, with noise. usage: make_dataset.py --rows N"""

import argparse
import random

from dagster_pipes import open_dagster_pipes
from demo_data import data_dir, write_whole

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, required=True)
rows = parser.parse_args().rows

with open_dagster_pipes() as pipes:
    noise = random.Random(0)
    inputs = [noise.uniform(-1, 1) for _ in range(rows)]
    points = [(x, 3 * x + 1 + noise.gauss(0, 0.1)) for x in inputs]
    path = data_dir() / "dataset.csv"
    write_whole(path, "".join(f"{x},{y}\n" for x, y in points))
    pipes.report_asset_materialization(metadata={"rows": rows, "path": str(path)})
