"""Networks that learn a planted shortcut, and whether `camcli audit` finds it.

`python -m tests.proof` draws the data, trains the networks, audits them and prints the table of the
documentation. In reading order: data, network, training (and what a network learned), judging,
outcomes.
"""
