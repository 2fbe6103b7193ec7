"""Use case: observe farms: plan, compute, judge, publish, read back."""
