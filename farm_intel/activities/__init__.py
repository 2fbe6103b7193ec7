"""Planned farm activities: schedules, occurrences, the logbook."""
