"""Clusters that nobody wants any more and that cannot end by themselves; see the sensors' page."""

from dagster_glue import build_reap_sensor

reap_sensor = build_reap_sensor(grace_s=3600)
