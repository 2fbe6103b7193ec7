"""Revisions in order; one head."""
