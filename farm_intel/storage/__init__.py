"""Adapters for what we keep: tables, rasters, farm files."""
