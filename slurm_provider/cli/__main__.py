"""``python -m slurm_provider.cli``, where the script ``ray-slurm`` is not installed."""

from __future__ import annotations

from slurm_provider.cli.main import main

if __name__ == "__main__":
    main(prog_name="ray-slurm")
