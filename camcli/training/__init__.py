"""Train and distil small image classifiers.

In reading order: recipe, data, augment, batches (of an epoch), temporary_norm, distillation, state,
output (the files of a run) and train. May import runs, engine, capture, models, methods, images and
errors. This room uses hooks and autograd itself, outside of capture: `temporary_norm` measures
statistics of activations, and training needs the gradients of the loss.
"""
