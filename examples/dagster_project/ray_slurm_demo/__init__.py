"""Dagster assets whose work is done by Ray, on this machine or on Slurm."""
