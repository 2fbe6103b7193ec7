"""The HTTP interface; FastAPI is imported nowhere else."""
