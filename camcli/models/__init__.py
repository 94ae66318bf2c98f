"""Networks by name, and the facts about them.

In reading order: options, model, sources (one row per source), known (names for a shell), load;
then the sources themselves (torchvision_networks, timm_networks, hf_networks with hf_tasks,
hf_outputs, hf_preprocessing and hub, prompts, folder, factory) with weights, checkpoint, unpickle,
keys, labels, head, precision and skip_init; then the facts (families, layouts, axes); then
exclusive, graph and fold_batchnorm. May import images and errors.
"""
