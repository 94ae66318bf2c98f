"""Train and distil small image classifiers.

Reading order: `recipe` (the hyperparameters), `data` (labelled images and their splits), `augment`
(random views), `batches` (the batches of an epoch), `temporary_norm` (layers that exist only during
training), `distillation` (the losses with a teacher), `networks` (the student and its teacher),
`state` (a run between two epochs), `step` (one optimiser step), `checkpoint`, `card` (the folder
that `camcli explain --model` loads) and `train` (the loop).
Imports from runs, engine, capture, models, methods, images and errors.
This room uses hooks and autograd itself, outside of capture: `temporary_norm` measures activation
statistics with forward hooks, and training needs the gradients of the loss.
"""
