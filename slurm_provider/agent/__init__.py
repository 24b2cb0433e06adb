"""The program inside each Slurm job: from an allocation to a Ray node and back.

Standard library only and no import of Ray: it starts on every node.
"""
