"""The environment that we give the head is one that this Ray reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from slurm_provider import bootstrap
from slurm_provider.config import parse_provider
from tests.slurm_provider.reconciler.head import HAS_PENDING_TIMEOUT

_ASK_RAY = """
import json
from ray.autoscaler._private import constants
from ray.autoscaler.v2.instance_manager.config import InstanceReconcileConfig
limits = InstanceReconcileConfig()
print(json.dumps({
    "allocate": limits.allocate_status_timeout_s,
    "request": limits.request_status_timeout_s,
    "warn": limits.transient_status_warn_interval_s,
    "pending": getattr(constants, "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S", None),
    "interval": constants.AUTOSCALER_UPDATE_INTERVAL_S,
    "batch": constants.AUTOSCALER_MAX_LAUNCH_BATCH,
    "concurrent": constants.AUTOSCALER_MAX_CONCURRENT_LAUNCHES,
}))
"""


def test_ray_reads_every_limit_we_set() -> None:
    provider = parse_provider({"pending_idle_timeout_s": 77, "autoscaler_interval_s": 3})
    env = bootstrap.autoscaler_env(provider)
    done = subprocess.run(
        [sys.executable, "-c", _ASK_RAY],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert read == {
        "allocate": 30 * 24 * 3600,
        "request": 600,
        "warn": 3600,
        "pending": 77 if HAS_PENDING_TIMEOUT else None,
        "interval": 3,
        "batch": 1000,
        "concurrent": 1000,
    }
