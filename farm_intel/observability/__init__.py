"""Logging, later metrics and traces."""
