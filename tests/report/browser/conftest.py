"""Headless Chromium, and a report to look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from camcli import cli
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.tables import json_row
from tests.report.test_compare_page import make_pair
from tests.support.audit_record import write_audit_page
from tests.support.browser import Browser, click, open_page, wait_for_frame
from tests.support.large_page import make_large_page
from tests.support.report import HOSTILE_NAME, MAP, make_evaluation, make_output_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")


def run_command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, arguments)])
    assert stopped.value.code == 0


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs camcli[browser]")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument("--disable-background-networking")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def _no_message_in_the_console(browser: Browser) -> Iterator[None]:
    """Fail a test in which a page wrote to the browser's console, or raised an error."""
    browser.get_log("browser")
    yield
    assert browser.get_log("browser") == []


@pytest.fixture(scope="package")
def report_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with failures, an evaluation and changes."""
    top = tmp_path_factory.mktemp("report")
    folder = make_output_folder(top)
    make_evaluation(folder)
    change = {"image": HOSTILE_NAME, "method": "gradcam", "target": "pred", "verdict": "changed"}
    tolerance = {"rtol": 0.01, "min_correlation": 0.99}
    (folder / "check.jsonl").write_text(
        json.dumps(change | {"reasons": ["values"], "relative": 0.5, "tolerance": tolerance}) + "\n"
    )
    run_command("report", folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="package")
def checked_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a map that changed much, one that changed little, and a class that changed."""
    top = tmp_path_factory.mktemp("checked")
    folder, baseline = make_output_folder(top), make_output_folder(top / "earlier")
    make_evaluation(folder)
    np.save(baseline / "plain.gradcam.npy", MAP[::-1])
    np.save(baseline / "plain.occlusion.npy", MAP * 1.5 - 40)
    manifest = baseline / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        if row["image"] == HOSTILE_NAME:
            row |= {"class_index": 4, "class_name": "dog"}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = (json_row(one, None, Tolerance()) for one in compare(folder, baseline, Tolerance()))
    (folder / "check.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    run_command("report", folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="package")
def audit_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an audit."""
    return write_audit_page(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="package")
def compare_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a comparison of two networks."""
    top = tmp_path_factory.mktemp("compare")
    a, b = make_pair(top)
    run_command("compare", a, b, "--output", top / "cmp", "--quiet")
    return (top / "cmp" / "compare.html").as_uri()


@pytest.fixture(scope="package")
def many_images_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of 1000 images, 000.jpg to 999.jpg, with two methods."""
    folder = tmp_path_factory.mktemp("many")
    return make_large_page(folder, 1000, ("gradcam", "occlusion")).as_uri()


@pytest.fixture
def page(browser: Browser, report_url: str) -> Browser:
    """The page, loaded anew."""
    return open_page(browser, report_url)


@pytest.fixture
def gallery(browser: Browser, report_url: str) -> Browser:
    """The page without filters. It is loaded only if the browser shows something else."""
    if browser.current_url.partition("#")[0] != report_url:
        return open_page(browser, report_url)
    click(browser, "#clear")
    wait_for_frame(browser)
    return browser
