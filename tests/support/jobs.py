"""Jobs that differ from another one in some options."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from camcli.runs.job import Job
from camcli.runs.options import InputOptions, RunOptions


def changed(job: Job, **changes: Any) -> Job:
    """Return a job with other fields, or other fields of its InputOptions and RunOptions."""
    inputs = {f.name: changes.pop(f.name) for f in fields(InputOptions) if f.name in changes}
    options = {f.name: changes.pop(f.name) for f in fields(RunOptions) if f.name in changes}
    return replace(
        job,
        inputs=replace(job.inputs, **inputs),
        options=replace(job.options, **options),
        **changes,
    )
