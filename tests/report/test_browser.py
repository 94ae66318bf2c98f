"""The page of `camcli report` as a browser has it: Chromium without a window, from a file."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camcli import cli
from camcli.images.geometry import Crop
from camcli.render import draw
from camcli.report import page
from camcli.report.folder import Entry, Folder
from camcli.report.originals import Photo
from tests.report.test_page import CLASS, HOSTILE, MAP, evaluated, output
from tests.support.files import SAMPLES, make_photo

Browser = Any
"""selenium's driver, which need not be there."""
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of camcli[browser]")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page over a folder with everything: failures, an evaluation, a baseline."""
    top = tmp_path_factory.mktemp("report")
    folder = output(top)
    make_photo(top / "photos" / "plain.jpg")
    evaluated(folder)
    (folder / "check.jsonl").write_text(
        json.dumps({"image": HOSTILE, "method": "gradcam", "target": "pred", "verdict": "differs"}
                   | {"reasons": ["values"], "relative": 0.5}) + "\n"
    )  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", str(folder)])
    assert stopped.value.code == 0
    return (folder / "report.html").as_uri()


@pytest.fixture
def loaded(browser: Browser, report: str) -> Browser:
    return opened(browser, report)


@pytest.fixture
def cleared(browser: Browser, report: str) -> Browser:
    """The gallery with nothing chosen, without loading it anew where it is there."""
    if browser.current_url != report:
        return opened(browser, report)
    browser.execute_async_script(
        "document.getElementById('clear').click(); setTimeout(arguments[0])"
    )
    return browser


def opened(
    browser: Browser, address: str, width: int = 1200, height: int = 800, theme: str = "light"
) -> Browser:
    """The page, anew, in a window of this size; what was logged before is forgotten."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(address)
    return browser


def ask(browser: Browser, script: str, *values: Any) -> Any:
    return browser.execute_script(f"return {script}", *values)


def names(browser: Browser) -> list[str]:
    found: list[str] = ask(
        browser, "[...document.querySelectorAll('.card b')].map(b => b.textContent)"
    )
    return found


def set_control(browser: Browser, name: str, value: str) -> None:
    browser.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', {bubbles: true}))", name, value,
    )  # fmt: skip


def press(browser: Browser, *keys: str) -> None:
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def pause(browser: Browser) -> None:
    """Until what was asked for is drawn."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def view(browser: Browser, name: str) -> None:
    """Open an image by clicking its card."""
    browser.execute_script(
        "[...document.querySelectorAll('.card')].find(c => c.title === arguments[0]).click()", name
    )
    browser.execute_async_script(
        "const done = arguments[0]; const look = () => document.getElementById('viewer').open"
        " ? done() : requestAnimationFrame(look); look()"
    )


def pictures_are_there(browser: Browser) -> bool:
    """Whether all pictures of what is shown could be loaded."""
    found: bool = browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('.stage img')].map(i => i.decode()))"
        ".then(() => done(true), () => done(false))"
    )
    return found


def test_it_loads_and_asks_for_nothing_but_files(loaded: Browser, report: str) -> None:
    assert names(loaded) == ["broken.jpg", "sub/a#b%41 é.jpg", HOSTILE, "plain.jpg"]
    assert pictures_are_there(loaded)
    view(loaded, HOSTILE)
    assert pictures_are_there(loaded)
    folder = report.removesuffix("out/report.html")
    for entry in loaded.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            assert address.startswith((folder, "data:", "about:")), address
    assert loaded.get_log("browser") == []


def test_hostile_names_are_names(loaded: Browser) -> None:
    view(loaded, HOSTILE)
    assert ask(loaded, "document.getElementById('name').textContent") == HOSTILE
    assert ask(loaded, "document.querySelector('#figures a').getAttribute('href')") == (
        "../photos/%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E.jpg"
    )
    press(loaded, "\ue00c")
    view(loaded, "plain.jpg")
    assert CLASS in ask(loaded, "document.getElementById('figures').textContent")
    assert ask(loaded, "document.querySelectorAll('script').length") == 2
    assert ask(loaded, "[window.hit, document.querySelectorAll('[onerror]').length]") == [None, 0]


def test_the_policy_holds(loaded: Browser) -> None:
    """Were a name to become markup, nothing in it would run, and nothing leave the page."""
    refused = loaded.execute_async_script(
        "const done = arguments[0], refused = [];"
        "document.addEventListener('securitypolicyviolation', e => {"
        "  refused.push(e.effectiveDirective); if (refused.length === 4) done(refused.sort()); });"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">'"
        "  + '<img src=\"http://127.0.0.1:9/x.png\"><style>body{display:none}</style>');"
        "fetch('http://127.0.0.1:9/').catch(() => 0);"
    )
    assert refused == ["connect-src", "img-src", "script-src-attr", "style-src-elem"]
    assert ask(loaded, "window.hit") is None


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"text": "PLAIN"}, ["plain.jpg"]),
        ({"text": "<img"}, [HOSTILE]),
        ({"class": "cat"}, ["sub/a#b%41 é.jpg", HOSTILE]),
        ({"class": CLASS}, ["plain.jpg"]),
        ({"status": "error"}, ["broken.jpg"]),
        ({"status": "empty"}, ["sub/a#b%41 é.jpg"]),
        ({"low": "40"}, [HOSTILE, "plain.jpg"]),
        ({"low": "40", "high": "60"}, [HOSTILE]),
        ({"method": "occlusion", "class": "cat"}, ["sub/a#b%41 é.jpg", HOSTILE]),
        ({"text": "nothing"}, []),
        ({"order": "name"}, [HOSTILE, "broken.jpg", "plain.jpg", "sub/a#b%41 é.jpg"]),
        ({"order": "confidence"}, ["sub/a#b%41 é.jpg", HOSTILE, "plain.jpg", "broken.jpg"]),
        ({"order": "deletion"}, ["plain.jpg", HOSTILE, "sub/a#b%41 é.jpg", "broken.jpg"]),
    ],
)
def test_filters_and_order(controls: dict[str, str], expected: list[str], cleared: Browser) -> None:
    for name, value in controls.items():
        set_control(cleared, name, value)
    assert names(cleared) == expected
    told = f"{len(expected)} of 4 images" if len(expected) < 4 else "4 images"
    assert ask(cleared, "document.getElementById('count').value") == told


def test_the_other_way_round(cleared: Browser) -> None:
    """What has no value comes last either way."""
    set_control(cleared, "order", "confidence")
    cleared.execute_script("document.getElementById('reversed').click()")
    assert names(cleared) == ["plain.jpg", HOSTILE, "sub/a#b%41 é.jpg", "broken.jpg"]


def test_the_slider(loaded: Browser) -> None:
    shown = "getComputedStyle(document.querySelector('.card canvas.heat:not(.diverging)')).opacity"
    assert float(ask(loaded, shown)) == pytest.approx(0.5)
    loaded.execute_script(
        "const one = document.querySelector('.opacity'); one.value = 20;"
        "one.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert float(ask(loaded, shown)) == pytest.approx(0.2)
    press(loaded, "+", "+")
    assert float(ask(loaded, shown)) == pytest.approx(0.4)
    press(loaded, "0")
    assert float(ask(loaded, shown)) == 0
    press(loaded, "0")
    assert float(ask(loaded, shown)) == pytest.approx(0.4)
    assert ask(loaded, "[...document.querySelectorAll('.opacity')].map(o => o.value)") == ["40"] * 2


def test_the_keyboard(loaded: Browser) -> None:
    left, up, right, down = "\ue012", "\ue013", "\ue014", "\ue015"
    here = "document.activeElement.title"
    press(loaded, right)
    assert ask(loaded, here) == "broken.jpg"
    press(loaded, right, right)
    assert ask(loaded, here) == HOSTILE
    press(loaded, left)
    assert ask(loaded, here) == "sub/a#b%41 é.jpg"
    press(loaded, down, up, "\ue010")
    assert ask(loaded, here) == "plain.jpg"
    press(loaded, "\ue011", "\ue007")
    pause(loaded)
    name = "document.getElementById('name').textContent"
    assert ask(loaded, "[document.getElementById('viewer').open, location.hash]") == [
        True,
        "#image-3",
    ]
    press(loaded, right)
    pause(loaded)
    assert ask(loaded, name) == "sub/a#b%41 é.jpg"
    press(loaded, left)
    pause(loaded)
    assert ask(loaded, name) == "broken.jpg"
    press(loaded, "\ue00c")
    pause(loaded)
    assert not ask(loaded, "document.getElementById('viewer').open")
    assert ask(loaded, here) == "broken.jpg"
    press(loaded, "\ue007")
    loaded.execute_script("document.getElementById('viewer').close()")  # as some browsers do
    pause(loaded)
    assert ask(loaded, "location.hash") == "#all"
    press(loaded, "m", "m")
    assert ask(loaded, "document.getElementById('method').value") == "occlusion"
    press(loaded, "/", "plain")
    assert names(loaded) == ["plain.jpg"]
    assert ask(loaded, "document.documentElement.dataset.theme ?? null") is None  # t was typed


def test_values_under_the_pointer(loaded: Browser) -> None:
    view(loaded, "plain.jpg")
    values = "[...document.querySelectorAll('figure .value')].map(v => v.textContent)"
    assert ask(loaded, values) == ["0 to 100, 5 x 7 cells", "-40 to 60, 5 x 7 cells"]
    for row, column in ((0, 0), (3, 5), (4, 6)):
        loaded.execute_script(
            "const seen = document.querySelector('#figures .seen');"
            "const box = seen.getBoundingClientRect();"
            "seen.dispatchEvent(new PointerEvent('pointermove', {"
            "  bubbles: true, clientX: box.left + box.width * (arguments[1] + 0.8) / 7,"
            "  clientY: box.top + box.height * (arguments[0] + 0.8) / 5 }))", row, column,
        )  # fmt: skip
        x, y = 15 + int(60 * (column + 0.8) / 7), int(60 * (row + 0.8) / 5)
        where = f"in row {row}, column {column} (pixel {x}, {y})"
        value = int(MAP[row, column])
        assert ask(loaded, values) == [f"{value} {where}", f"{value - 40} {where}"]


def test_maps_are_drawn_as_overlays_are(loaded: Browser) -> None:
    """The canvas has the colours of camcli.render, and for signed maps its opacity."""
    view(loaded, "plain.jpg")
    for number, signed in enumerate((False, True)):
        address = ask(
            loaded, "document.querySelectorAll('#figures canvas')[arguments[0]].toDataURL()", number
        )
        drawn = np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))), float)
        size, values = drawn.shape[:2], MAP - 40 if signed else MAP
        white = np.full((*size, 3), 255, np.uint8)
        whole = Crop(0, 0, size[1], size[0])
        expected = draw.overlay(white, values, whole, draw.Style(alpha=1 / 1.6), signed)
        share = drawn[..., 3:] / 255 if signed else 1 / 1.6
        seen = 255 + (drawn[..., :3] - 255) * share
        assert np.abs(seen - expected).max() < 5


def test_an_image_has_an_address(browser: Browser, report: str) -> None:
    opened(browser, f"{report}#image-0")
    assert ask(browser, "document.getElementById('name').textContent") == "plain.jpg"
    opened(browser, f"{report}#image-99")
    assert not ask(browser, "document.getElementById('viewer').open")


def test_without_originals(browser: Browser, tmp_path: Path) -> None:
    """The saved overlay is shown, and more heat on it."""
    folder = output(tmp_path)
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(SystemExit):
        cli.main(["report", str(folder), "--quiet"])
    opened(browser, (folder / "report.html").as_uri())
    assert pictures_are_there(browser)
    view(browser, "plain.jpg")
    heat = "getComputedStyle(document.querySelector('#figures canvas')).opacity"
    assert float(ask(browser, heat)) == 0
    press(browser, *"+++++")
    assert float(ask(browser, heat)) == 1
    assert ask(browser, "document.querySelector('#figures .base').naturalWidth") == 90
    assert browser.get_log("browser") == []


def test_light_dark_and_phone(browser: Browser, report: str) -> None:
    brightness = {}
    for theme in ("light", "dark"):
        opened(browser, report, theme=theme)
        picture = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("L")
        brightness[theme] = np.asarray(picture, float).mean()
    assert brightness["light"] > 180 > 90 > brightness["dark"]
    press(browser, "t")
    assert ask(browser, "document.documentElement.dataset.theme") == "light"
    opened(browser, report, width=360, height=740)
    for name in (None, HOSTILE):
        if name:
            view(browser, name)
        assert ask(browser, "document.documentElement.scrollWidth") <= 360
        assert ask(browser, "document.getElementById('viewer').scrollWidth") <= 360
    assert len(names(browser)) == 4


def test_ten_thousand_images(browser: Browser, tmp_path: Path) -> None:
    """They are there at once, a few cards at a time, and the last is one key away."""
    np.save(tmp_path / "map.npy", np.random.default_rng(0).random((14, 14), np.float32))
    buffer = BytesIO()
    Image.open(SAMPLES / "dog.jpg").resize((140, 105)).save(buffer, "WEBP", quality=75)
    files = {"map": tmp_path / "map.npy"}
    entry = Entry("dog.jpg", "gradcam", "pred", "ok", crop=Crop(35, 0, 105, 105), files=files)
    photos, file = [Photo("dog.jpg", (140, 105), None, buffer.getvalue())], tmp_path / "report.html"
    facts = page.facts(page.Report(Folder(tmp_path, [entry], {}), photos, file, 196))
    facts["images"] = [facts["images"][0] | {"name": f"{n:05}.jpg"} for n in range(10_000)]
    file.write_bytes(page.filled({"title": "many", **facts}))
    opened(browser, file.as_uri())
    took = ask(browser, "Number(document.documentElement.dataset.ready)")
    print(f"10 000 images, {file.stat().st_size / 1e6:.0f} MB: shown after {took} ms")  # noqa: T201
    assert took < 10_000
    assert 8 <= len(names(browser)) < 100
    for share in range(1, 9):
        browser.execute_script("scrollTo(0, document.body.scrollHeight * arguments[0] / 9)", share)
        pause(browser)
    assert len(names(browser)) < 100
    press(browser, "\ue014", "\ue010")
    pause(browser)
    assert ask(browser, "document.activeElement.title") == "09999.jpg"
    set_control(browser, "text", "0777")
    assert len(names(browser)) == 11
    assert browser.get_log("browser") == []
