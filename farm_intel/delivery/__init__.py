"""Channels: mail, webhooks, apprise."""
