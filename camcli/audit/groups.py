"""Groups of a class's images that the network treats alike: spectral clustering of their heat.

This is spectral relevance analysis (SpRAy, Lapuschkin et al. 2019, "Unmasking Clever Hans
predictors", Nature Communications 10): heat reduced in size, a graph of nearest neighbours, the
eigenvectors of its Laplacian, and as many groups as the largest gap of the eigenvalues says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camcli.audit.samples import Numbers, Samples
from camcli.errors import CamcliError
from camcli.images.geometry import Floats

MOST_GROUPS = 8
LEAST_IMAGES = 12
"""The least number of maps that are clustered."""
MOST_IMAGES = 400
"""The most maps of a class that are clustered; of more, so many are drawn at random."""
SEEDS = 5
_POOLED = 2
"""The cells of a grid, along each side, whose heat is added up before clustering."""


@dataclass(frozen=True)
class Groups:
    """The groups of a class, the most different first.

    - `members`: the samples of each group, together those that were clustered.
    - `separations`: for each group, how far its mean is from that of the class's other groups, in
      standard deviations within the groups along that direction (Fisher's criterion).
    - `eigenvalues`: the smallest of the graph's normalised Laplacian.
    - `stability`: the mean adjusted Rand index of the groups of SEEDS seeds, 1 if they agree.
    """

    members: tuple[Numbers, ...]
    separations: tuple[float, ...]
    eigenvalues: tuple[float, ...]
    stability: float


def find_groups(samples: Samples, numbers: Numbers, seed: int = 0) -> Groups | None:
    """Return the groups of a class's samples; None for fewer than LEAST_IMAGES maps.

    Raises CamcliError if scikit-learn is not installed.
    """
    used = numbers[samples.heated[numbers]]
    if len(used) > MOST_IMAGES:
        used = np.sort(np.random.default_rng(seed).choice(used, MOST_IMAGES, replace=False))
    if len(used) < LEAST_IMAGES:
        return None
    points = _points(samples.heat[used].astype(np.float64))
    values, vectors = _spectrum(points)
    count = 1 + int(np.argmax(np.diff(values[: MOST_GROUPS + 1])))
    if count == 1:
        return Groups((used,), (0.0,), tuple(values), 1.0)
    labellings = [_partition(vectors[:, :count], seed + number) for number in range(SEEDS)]
    members = [np.flatnonzero(labellings[0] == label) for label in range(count)]
    members = [one for one in members if one.size]
    separations = [_separation(points, one) for one in members]
    order = np.argsort(separations)[::-1]
    return Groups(
        members=tuple(used[members[i]] for i in order),
        separations=tuple(separations[i] for i in order),
        eigenvalues=tuple(values),
        stability=_stability(labellings),
    )


def _points(heat: Floats) -> Floats:
    """Return heat (n,side,side) as points (n,d) of length 1, by square roots of its shares.

    Their distances are those of Hellinger.
    """
    n, side, _ = heat.shape
    pooled = heat.reshape(n, side // _POOLED, _POOLED, side // _POOLED, _POOLED).sum((2, 4))
    flat = pooled.reshape(n, -1)
    return np.asarray(np.sqrt(flat / flat.sum(1, keepdims=True)))


def _spectrum(points: Floats) -> tuple[Floats, Floats]:
    """Return the smallest eigenvalues of the normalised Laplacian, and their vectors (n,d)."""
    sklearn = _sklearn()
    n = len(points)
    neighbours = max(3, round(math.log2(n)))
    graph = sklearn.neighbors.kneighbors_graph(points, neighbours).toarray()
    graph = np.maximum(graph, graph.T)
    scale = 1 / np.sqrt(graph.sum(1))
    values, vectors = np.linalg.eigh(np.eye(n) - scale[:, None] * graph * scale)
    return values[: MOST_GROUPS + 2].clip(min=0), vectors[:, :MOST_GROUPS]


def _partition(vectors: Floats, seed: int) -> NDArray[np.int32]:
    """Return the group of each row of vectors (n,k), for k groups."""
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    found = _sklearn().cluster.k_means(rows, vectors.shape[1], random_state=seed, n_init=3)
    return np.asarray(found[1])


def _separation(points: Floats, inside: NDArray[np.intp]) -> float:
    mask = np.zeros(len(points), bool)
    mask[inside] = True
    direction = points[mask].mean(0) - points[~mask].mean(0)
    along = points @ direction
    within = math.sqrt((along[mask].var() + along[~mask].var()) / 2)
    return float((along[mask].mean() - along[~mask].mean()) / max(within, 1e-9))


def _stability(labellings: list[NDArray[np.int32]]) -> float:
    score = _sklearn().metrics.adjusted_rand_score
    return float(np.mean([score(one, other) for one, other in combinations(labellings, 2)]))


def _sklearn() -> Any:
    try:
        import sklearn.cluster
        import sklearn.metrics
        import sklearn.neighbors
    except ImportError:
        raise CamcliError(
            "groups of images need scikit-learn: pip install 'camcli[audit]'"
        ) from None
    return sklearn
