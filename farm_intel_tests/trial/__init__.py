"""The trial of alerts from the field to the ear, and that it fails where it should."""
