"""Frozen values and pure rules: the standard library and numpy only, imports nothing of ours above itself."""
