"""`make bench`: the engine and the whole path against pinned peers, as ratios within one run."""
