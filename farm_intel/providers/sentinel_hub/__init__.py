"""Sentinel Hub through its own client: scenes, pixels and statistics."""
