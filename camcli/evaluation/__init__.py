"""How good is a map? Metrics with and without annotations, two controls, and their table.

A run goes forwards like an explanation: images -> a batch of maps -> the evidence that the metrics
ask for by name, each taken once -> one number for each image, method and metric -> a summary with
means and bootstrap intervals, of which table, records and plots are made. Where there is ground
truth, it decides which images and classes are explained (`truth`), and is evidence like the rest.
`metrics` is the registry and `protocol` what papers leave open; neither imports torch, so that the
command line can list them at once.
"""
