"""Examples of explaining networks that are not classifiers from Python, short enough to copy."""
