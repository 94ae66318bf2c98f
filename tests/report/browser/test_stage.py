"""One map over the whole viewer, two maps with a divider, and the zoom of all maps together."""

from __future__ import annotations

import pytest

from tests.support.browser import (
    DOWN,
    ENTER,
    ESCAPE,
    NAME_IN_VIEWER,
    RIGHT,
    VIEWER_IS_OPEN,
    Browser,
    evaluate,
    open_image,
    open_page,
    press,
    set_control,
    wait_for,
)

FOCUSED_MAP = "document.activeElement.dataset.title"
ENLARGED = "document.getElementById('stage').hidden ? '' : document.getElementById('shown').value"
COMPARED = "document.getElementById('against').value"
DIVIDER = "Number(document.getElementById('divider').value)"


@pytest.fixture
def image(page: Browser) -> Browser:
    open_image(page, "plain.jpg")
    return page


def drag(browser: Browser, selector: str, kind: str, x: float, y: float, pointer: int = 1) -> None:
    """Send a pointer's event at a place of a picture, in shares of its sides."""
    browser.execute_script(
        "const [selector, kind, x, y, pointerId] = arguments;"
        "const element = document.querySelector(selector);"
        "const box = (element.closest('.frame') ?? element).getBoundingClientRect();"
        "element.setPointerCapture = () => {}; element.hasPointerCapture = () => true;"
        "element.dispatchEvent(new (kind === 'click' ? MouseEvent : PointerEvent)(kind, {"
        "  bubbles: true, pointerId, clientX: box.left + box.width * x,"
        "  clientY: box.top + box.height * y }))", selector, kind, x, y, pointer,
    )  # fmt: skip


def turn_wheel(browser: Browser, distance: float, x: float = 0.5, y: float = 0.5) -> bool:
    """Turn the wheel over the second picture. Return whether the viewer may scroll by it."""
    scrolls: bool = browser.execute_script(
        "const frame = document.querySelectorAll('.frame')[1] ?? document.querySelector('.frame');"
        "const box = frame.getBoundingClientRect();"
        "return frame.dispatchEvent(new WheelEvent('wheel', { bubbles: true, cancelable: true,"
        "  deltaY: arguments[0], clientX: box.left + box.width * arguments[1],"
        "  clientY: box.top + box.height * arguments[2] }))", distance, x, y,
    )  # fmt: skip
    return scrolls


def zooms(browser: Browser) -> list[tuple[float, float, float]]:
    """Return the scale of each picture, and its offset in shares of its frame."""
    found = evaluate(
        browser,
        "[...document.querySelectorAll('.frame .picture')].map(picture => {"
        "  const inner = picture.getBoundingClientRect();"
        "  const outer = picture.closest('.frame').getBoundingClientRect();"
        "  return [inner.width / outer.width, (inner.left - outer.left) / outer.width,"
        "          (inner.top - outer.top) / outer.height] })",
    )
    return [tuple(round(value, 3) for value in zoom) for zoom in found]


@pytest.mark.parametrize("how", ["Enter", "Space", "click"])
def test_a_map_fills_the_window(how: str, image: Browser) -> None:
    press(image, "m", "m")
    assert evaluate(image, FOCUSED_MAP) == "gradcam"
    if how in ("Enter", "Space"):
        press(image, {"Enter": ENTER, "Space": " "}[how])
    else:
        for kind in ("pointerdown", "pointerup", "click"):
            drag(image, "[data-title=gradcam]", kind, 0.5, 0.5)
    assert evaluate(image, ENLARGED) == "gradcam"
    box = evaluate(image, "document.querySelector('#screen .frame').getBoundingClientRect()")
    assert box["width"] > 0.9 * 1200 or box["height"] > 0.75 * 800
    press(image, ESCAPE if how == "click" else ENTER)
    assert evaluate(image, ENLARGED) == ""
    assert evaluate(image, VIEWER_IS_OPEN)
    assert evaluate(image, FOCUSED_MAP) == "gradcam"


def test_paging_keeps_the_map(browser: Browser, many_images_url: str) -> None:
    open_page(browser, f"{many_images_url}#image=004.jpg&map=occlusion")
    press(browser, RIGHT)
    assert evaluate(browser, NAME_IN_VIEWER) == "005.jpg"
    assert evaluate(browser, ENLARGED) == "occlusion"
    press(browser, "m", "m")
    assert evaluate(browser, ENLARGED) == "gradcam"
    assert evaluate(browser, "document.getElementById('method').value") == "", "a filter changed"
    press(browser, ESCAPE, ESCAPE)
    wait_for(browser, f"!{VIEWER_IS_OPEN}")
    wait_for(browser, "location.hash === ''")


def test_the_wheel_zooms_all_maps_together(image: Browser) -> None:
    assert set(zooms(image)) == {(1, 0, 0)}
    assert not turn_wheel(image, -400, 0.25, 0.5)
    ((scale, x, y),) = set(zooms(image))
    assert scale > 2
    assert (0.25 - x) / scale == pytest.approx(0.25, abs=0.002), "the point under the pointer moved"
    press(image, "m", ENTER)
    assert set(zooms(image)) == {(scale, x, y)}, "the enlarged map shows another place"
    turn_wheel(image, 1000)
    assert set(zooms(image)) == {(1, 0, 0)}


def test_the_wheel_still_scrolls(image: Browser) -> None:
    assert turn_wheel(image, 100)
    assert set(zooms(image)) == {(1, 0, 0)}


def test_dragging_moves_all_maps_and_is_no_click(image: Browser) -> None:
    turn_wheel(image, -400)
    before = zooms(image)[0]
    for kind, x in (("pointerdown", 0.5), ("pointermove", 0.6), ("pointerup", 0.6), ("click", 0.6)):
        drag(image, "[data-title=gradcam]", kind, x, 0.5)
    ((scale, x, y),) = set(zooms(image))
    assert (scale, x, y) == pytest.approx((before[0], before[1] + 0.1, before[2]), abs=0.002)
    assert evaluate(image, ENLARGED) == ""
    for kind, x in (("pointerdown", 0.1), ("pointermove", 9), ("pointerup", 9)):
        drag(image, "[data-title=gradcam]", kind, x, 0.5)
    assert zooms(image)[0][1] == 0, "the picture left its frame"


def test_two_fingers_zoom(image: Browser) -> None:
    target = "[data-title=gradcam]"
    drag(image, target, "pointerdown", 0.4, 0.5, pointer=1)
    drag(image, target, "pointerdown", 0.6, 0.5, pointer=2)
    drag(image, target, "pointermove", 0.8, 0.5, pointer=2)
    ((scale, _, _),) = set(zooms(image))
    assert scale == pytest.approx(2, abs=0.01)


def test_z_shows_pixels_one_to_one_and_back(browser: Browser, many_images_url: str) -> None:
    open_page(browser, f"{many_images_url}#image=004.jpg&map=gradcam")
    press(browser, "z")
    width = "document.querySelector('#screen .picture').getBoundingClientRect().width"
    assert evaluate(browser, width) == pytest.approx(140, abs=0.5)
    press(browser, "z")
    assert set(zooms(browser)) == {(1, 0, 0)}


def test_a_divider_between_two_maps(image: Browser) -> None:
    press(image, "m", "m", ENTER)
    set_control(image, "#against", "occlusion")
    clip = "getComputedStyle(document.querySelector('#screen .second')).clipPath"
    assert evaluate(image, clip) == "inset(0px 0px 0px 50%)"
    image.execute_script("document.getElementById('divider').focus()")
    press(image, DOWN)
    assert evaluate(image, DIVIDER) == 49
    drag(image, "#screen .divider", "pointermove", 0.2, 0.5)
    assert evaluate(image, DIVIDER) == 20
    assert evaluate(image, clip) == "inset(0px 0px 0px 20%)"
    wait_for(image, "location.hash.endsWith('map=gradcam&against=occlusion')")
    image.refresh()
    assert (evaluate(image, ENLARGED), evaluate(image, COMPARED)) == ("gradcam", "occlusion")


def test_choosing_by_the_keyboard_keeps_the_focus(image: Browser) -> None:
    press(image, "m", "m", ENTER)
    for control in ("against", "shown"):
        image.execute_script("document.getElementById(arguments[0]).focus()", control)
        press(image, DOWN)
        assert evaluate(image, "document.activeElement.id") == control
    assert (evaluate(image, ENLARGED), evaluate(image, COMPARED)) == ("occlusion", "original")


def test_a_key_alternates_between_two_maps(image: Browser) -> None:
    press(image, "m", "m", ENTER, "f")
    assert evaluate(image, COMPARED) == "original"
    for expected in (0, 100, 0):
        assert evaluate(image, DIVIDER) == expected
        press(image, "f")


def test_values_of_both_maps_are_under_the_pointer(image: Browser) -> None:
    press(image, "m", "m", ENTER)
    set_control(image, "#against", "occlusion")
    drag(image, "#screen .frame", "pointermove", 0.5, 0.5)
    values = "[...document.querySelectorAll('#readings .value')].map(one => one.textContent)"
    place = "in row 2, column 3 (pixel 45, 30)"
    assert evaluate(image, values) == [f"25 {place}", f"-15 {place}"]


def test_every_picture_has_a_text(image: Browser) -> None:
    labels = "[...document.querySelectorAll(arguments[0])].map(picture => picture.ariaLabel)"
    found = evaluate(image, labels, "#figures .picture")
    assert found[0] == "original of plain.jpg"
    assert found[1].startswith("gradcam of plain.jpg, class ")
    assert found[1].endswith(" 90.0%")
    assert all(evaluate(image, labels, ".picture"))
    bare = "[...document.images].filter(i => !i.alt && !i.closest('[role=img]')).length"
    assert evaluate(image, bare) == 0


def test_an_enlarged_map_has_its_colour_bar(image: Browser) -> None:
    press(image, "m", "m", ENTER)
    set_control(image, "#against", "occlusion")
    numbers = "[...document.querySelectorAll('#readings .colour-bar p')].map(one => one.innerText)"
    assert [text.split() for text in evaluate(image, numbers)] == [
        ["0", "100"],
        ["\u221260", "0", "60"],
    ]
