"""Occlusion that recomputes only what a window changes. Read `run` first."""
