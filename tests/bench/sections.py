"""The sections of the benchmark by name. Each yields its measurements as it takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.bench.clock import Measurement
from tests.bench.cluster import cluster
from tests.bench.commands import files, memory, speedups, startup
from tests.bench.compilers import compilers
from tests.bench.libraries import peers, peers_files
from tests.bench.networks import engine, evaluate, occlusion, perturbation, precision
from tests.bench.stages import stages
from tests.bench.workload import Workload

SECTIONS: Mapping[str, Callable[[Workload], Iterator[Measurement]]] = {
    "engine": engine,
    "peers": peers,
    "peers-files": peers_files,
    "precision": precision,
    "compile": compilers,
    "files": files,
    "start-up": startup,
    "speedups": speedups,
    "memory": memory,
    "occlusion": occlusion,
    "perturbation": perturbation,
    "evaluate": evaluate,
    "stages": stages,
    "cluster": cluster,
}
