"""Telling people: texts, the outbox and the streams."""
