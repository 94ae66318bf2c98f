"""The handbook is complete, agrees with the code, and its commands run.

Read `console` (the commands of a page), `sandbox` (the files that they name) and `server` (which
starts camcli quickly), then the tests.
"""
