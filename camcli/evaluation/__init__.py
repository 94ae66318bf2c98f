"""Metrics of heatmaps, with and without annotations, and their summary over many images.

Reading order: `registry` (the rows), `metrics` and `localisation` (the functions), `protocol` (the
options), `baselines`, `study`; `evidence` and `grid_pointing` (what a metric is computed from),
with `perturbation`, `imputation`, `randomization` and `correlation`; `annotations` and
`ground_truth`; `workload`, `run`, `measurer` and `scores`; `intervals`, `estimates`, `summary`,
`marks`, `table`, `drawing`, `plots`, `cells`, `export`. May import runs and below. Importing it
registers every metric and does not import torch.
"""

from camcli.evaluation import localisation, metrics  # noqa: F401 - both register their metrics
