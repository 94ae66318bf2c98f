"""Watched forward passes. Only this room uses hooks and autograd.

In reading order: targets, forms, parted (several parts), detections (boxes with classes), instances
(single objects) and target_parser, hooks (a target layer's output becomes a detached leaf, so that
a backward pass covers the head only), pooled (the same gradient, of a few classes alone), forward
(one watched pass), guided, strided (its gradient at the image, faster), activations, readers,
similarity (to a reference image), windows, target_evidence and evidence (computed on request),
class_moments, perturbed (passes on changed images), attention and blocks (a pass that notes the
attention of transformers), libra (a backward rule), incremental (faster occlusion), axes and
axis_rules (where a layer's cells lie in the image), tracing, discover. May import models, render,
methods, images and errors.
"""
