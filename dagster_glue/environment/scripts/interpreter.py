"""Printed as JSON: which Python this is. Runs on the cluster, under any Python 3."""

import json
import os
import platform
import sys

executable = getattr(sys, "_base_executable", None) or sys.executable
name, version = platform.libc_ver()
glibc = [int(part) for part in version.split(".")[:2]] if name == "glibc" else None
print(
    json.dumps(
        {
            "path": os.path.realpath(executable),
            "version": list(sys.version_info[:3]),
            "glibc": glibc,
        }
    )
)
