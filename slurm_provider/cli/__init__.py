"""``ray-slurm``: what Ray's own commands cannot say about a cluster on Slurm."""
