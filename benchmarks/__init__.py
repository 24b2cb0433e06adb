"""How fast, measured on the sandbox beside the bare commands in the same run."""
