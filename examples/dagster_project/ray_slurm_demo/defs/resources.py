import dagster as dg

from ray_slurm_demo.site import compute_from_env


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(resources={"compute": compute_from_env()})
