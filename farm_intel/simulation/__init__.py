"""The simulated farm world: closed-form truth for demo, tests, benchmarks and the accuracy scoreboard."""
