"""Made-up cases with known answers, for the demo, the tests and the benchmarks."""
