"""Dagster Pipes messages of a job, each exactly once."""
