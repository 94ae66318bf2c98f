"""The budget of decoded images: who waits, who goes on, and what is freed."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from camcli.images import memory
from camcli.images.memory import Budget, available_memory
from tests.support.waiting import wait_until

MEGABYTE = 1_000_000


def pixels(count: int) -> np.ndarray:
    return np.zeros((count, 1, 3), np.uint8)


def test_half_of_the_budget_holds_pixels_until_they_are_freed() -> None:
    budget = Budget(60)
    first = budget.held(pixels(5))
    second = budget.held(pixels(5))
    assert first is not None
    assert second is not None
    assert budget.held(pixels(1)) is None
    del first
    gc.collect()
    assert budget.held(pixels(5)) is not None


def test_a_thread_waits_for_room_and_then_goes_on() -> None:
    budget, entered, leave = Budget(memory.DECODING * 10), threading.Event(), threading.Event()

    def work() -> None:
        with budget.decoding((5, 1)):
            entered.set()
            leave.wait(60)

    with budget.decoding((6, 1)):
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: budget._scarce)
        assert not entered.is_set()
    assert entered.wait(60)
    with budget.decoding((5, 1)):  # there is room for both
        leave.set()
    thread.join(60)
    assert not thread.is_alive()


def test_an_image_larger_than_the_budget_goes_on_alone() -> None:
    budget = Budget(1)
    assert budget.held(pixels(1)) is None
    with budget.decoding((1000, 1000)):
        pass
    with budget.drawing((1000, 1000)):
        pass


def test_the_available_memory_is_that_of_the_machine_or_less() -> None:
    assert 0 < available_memory() < 2**50
    assert Budget().limit >= memory._LEAST


@pytest.mark.parametrize(
    ("controller", "folder", "limit", "used"),
    [
        ("0::", "", "memory.max", "memory.current"),
        ("4:memory:", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_a_control_group_limits_the_memory(
    controller: str,
    folder: str,
    limit: str,
    used: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (own := tmp_path / folder / "job" / "step").mkdir(parents=True)
    (own / limit).write_text("max\n")
    (own.parent / limit).write_text(f"{100 * MEGABYTE}\n")
    (own.parent / used).write_text(f"{90 * MEGABYTE}\n")
    (own.parent / "memory.stat").write_text(f"anon 1\ninactive_file {20 * MEGABYTE}\n")
    (listed := tmp_path / "cgroup").write_text(f"1:cpu:/job\n{controller}/job/step\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", listed)
    assert available_memory() == 30 * MEGABYTE
