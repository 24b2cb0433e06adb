"""The program in front of a payload where no file system is shared: gives it its variables.

``python -m dagster_glue_start command...``; the variables are in a file beside this one, which
goes as soon as it is read. Runs by the cluster's Python, whatever its version: standard library
only.
"""

from __future__ import annotations

import json
import os
import sys

_VARIABLES = "dagster_glue_start.json"


def main(argv: list[str]) -> int:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), _VARIABLES)
    with open(path) as file:
        os.environ.update(json.load(file))
    os.unlink(path)
    try:
        os.execvp(argv[1], argv[1:])
    except OSError as error:
        print(f"{argv[1]} cannot be started: {error}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv))
