"""Runs: a job from paths to files and manifest rows, in input order.

In reading order: options, job, references, from_options, items, pipeline (read, explain, write),
shared_scale (draw again), ahead, batches, worker, parallel; label_files, class_map, truth,
predictions, filters and accuracy (the true class of an image, and the network's); names, outputs,
files, save, records, index and manifest (what is written); maps, grids and originals (read again);
rows, resume, earlier, lock, recording and packing (what a folder keeps); shards and merge; ray and
cluster (an executor for several machines). May import engine, capture, models, render, methods,
images and errors.
"""
