"""Alerts: evaluating the rules, the life of an alert, escalation and its auditor."""
