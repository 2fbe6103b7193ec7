"""The whole job as an operator sees it: real processes, a real browser, real kills."""
