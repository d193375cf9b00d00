"""Benchmarks; see docs/performance.md. A package of its own, since opacus installs one of that name."""
