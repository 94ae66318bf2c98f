"""The forward pass being watched. Hooks and autograd are used in this room only.

A hook on the target layer replaces its output by a detached leaf. The trunk before the layer thus
builds no graph, and a backward pass covers the head behind it: K targets cost K passes over the
head and one pass over the trunk. Guided Backpropagation needs a graph through the trunk, and one
forward pass then serves the plain and the guided gradients. Everything changed on a caller's model
(mode, requires_grad, hooks) is restored on leaving, also after an exception; `.grad` is never
written.

Read `targets` (what is explained), `hooks`, `forward` (one watched pass), `evidence` (what a method
may ask for) and `perturbed` (passes on changed images) in this order. `incremental` makes occlusion
faster, `guided` holds the guided rule, `readers` read outputs of segmentation and detection,
`tracing` and `discover` find the target layer. May import models, render, methods, images, errors.
"""
