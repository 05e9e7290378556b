"""Measurements of the parts against their peers, each in one run: `python -m benchmarks.lbs` and so on."""
