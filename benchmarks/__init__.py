"""Benchmarks, see docs/performance.md; a package, since opacus installs one of this name."""
