"""Networks that are no classifiers, explained from Python: short, to be read and copied."""
