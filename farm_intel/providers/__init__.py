"""Adapters to imagery catalogues and files; none knows another."""
