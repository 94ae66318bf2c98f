"""Measurements for docs/placement.md: `python -m tests.placement COMMAND`."""
