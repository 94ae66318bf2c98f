"""The region of a convolution's output that depends on a region of its input."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camcli.capture.incremental.regions import Slide, Span

slides = st.builds(
    Slide, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)
)


@settings(deadline=None)
@given(slides, st.integers(1, 20), st.integers(1, 20), st.integers(1, 12))
def test_the_output_region_of_an_input_region(
    slide: Slide, first: int, length: int, extent: int
) -> None:
    side = first + length + 5
    span = Span(torch.tensor([first]), torch.tensor([first + length]), side)
    found = span.after(slide, extent)
    changed = [
        i
        for i in range(extent)
        if any(
            first <= i * slide.stride - slide.padding + tap * slide.dilation < first + length
            for tap in range(slide.kernel)
        )
    ]
    inside = range(int(found.first), int(found.end))
    assert set(changed) <= set(inside)
    if slide.reach == slide.kernel - 1 >= slide.stride - 1:  # the taps have no gaps
        assert list(inside) == changed
    assert 0 <= int(found.start) <= int(found.start) + found.length <= extent
