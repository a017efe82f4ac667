"""Which GPUs each worker computes on: what it needs, what there is, and what fails."""
