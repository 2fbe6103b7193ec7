"""Chaos for activities and delivery: the real code, killed and starved wherever it can be; run by `tools.chaos`."""
