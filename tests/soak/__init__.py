"""Long runs: a million records, thousands of damaged images, and runs that are killed.

`make soak`, or `python -m tests.soak PART`. Every part prints its seed, and one line of figures for
each command that it runs.
"""
