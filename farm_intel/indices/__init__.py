"""The index registry: formulas are data, parsed once against an allow-list."""
