"""The triage of a check, orders that do not mix methods, and what is taken along of a selection."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from camcli.evaluation.cells import unguarded
from tests.report.browser.conftest import run_command
from tests.support.browser import (
    Browser,
    card_names,
    click,
    evaluate,
    open_image,
    open_page,
    press,
    set_control,
    wait_for,
)
from tests.support.report import (
    HOSTILE_CLASS,
    HOSTILE_NAME,
    MAP,
    ODD_NAME,
    make_output_folder,
)
from tests.support.waiting import wait_until

PAIR = ("gradcam · baseline", "gradcam")


@pytest.fixture
def checked(browser: Browser, checked_url: str) -> Browser:
    return open_page(browser, checked_url)


def allow_downloads(browser: Browser, folder: Path) -> None:
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )


def numbers(browser: Browser) -> dict[str, str]:
    """Return the line of numbers of each card."""
    numbers = "[c.title, c.querySelector('.numbers').textContent]"
    found: dict[str, str] = evaluate(
        browser, f"Object.fromEntries([...document.querySelectorAll('.card')].map(c => {numbers}))"
    )
    return found


def options(browser: Browser, name: str) -> list[str]:
    texts: list[str] = evaluate(
        browser, "[...document.getElementById(arguments[0]).options].map(o => o.text)", name
    )
    return texts


def test_kinds_of_changes(checked: Browser) -> None:
    assert options(checked, "verdict") == ["all", "class changed (2)", "changed (4)", "alike (4)"]
    for kind, expected in (
        ("class changed", [HOSTILE_NAME]),
        ("changed", [HOSTILE_NAME, "plain.jpg"]),
        ("alike", ["broken.jpg", ODD_NAME]),
    ):
        set_control(checked, "#verdict", kind)
        assert card_names(checked) == expected, "expected class changes first"


def test_orders_of_a_check_and_numbers_on_the_cards(checked: Browser) -> None:
    set_control(checked, "#order", "off by")
    assert card_names(checked)[0] == "plain.jpg"
    assert numbers(checked)["plain.jpg"].startswith("off by 64.0%!, correlation 0.283!")
    assert numbers(checked)[HOSTILE_NAME] == "off by 0.0%, correlation 1.000, shift 0.00"
    set_control(checked, "#order", "shift")
    assert card_names(checked)[0] == "plain.jpg"
    assert numbers(checked)["plain.jpg"].startswith("shift ")
    set_control(checked, "#order", "correlation")
    assert card_names(checked)[0] == "plain.jpg"


def test_the_table_of_methods_selects(checked: Browser) -> None:
    table = "[...document.querySelectorAll('#check tbody tr')].map(r => r.innerText.split('\\t'))"
    gradcam, occlusion = evaluate(checked, table)
    assert gradcam[:6] == ["gradcam", "2", "2", "1", "0", "0"]
    assert occlusion[:6] == ["occlusion", "2", "2", "1", "0", "0"]
    click(checked, "#check button[title='show occlusion, class changed']")
    assert card_names(checked) == [HOSTILE_NAME]
    assert evaluate(checked, "document.getElementById('method').value") == "occlusion"


def test_a_key_alternates_between_the_baseline_and_the_new_map(checked: Browser) -> None:
    open_image(checked, "plain.jpg")
    titles = "[...document.querySelectorAll('figcaption b')].map(b => b.textContent)"
    assert evaluate(checked, titles)[1:3] == [*PAIR]
    shown = "document.getElementById('stage').dataset.shown"
    for side in ("right", "left", "right"):
        press(checked, "b")
        assert evaluate(checked, shown) == side
    selects = "['shown', 'against'].map(id => document.getElementById(id).value)"
    assert evaluate(checked, selects) == [*PAIR]
    assert checked.get_log("browser") == []


def test_without_a_baseline_the_key_does_nothing(checked: Browser) -> None:
    open_image(checked, ODD_NAME)
    press(checked, "b")
    assert evaluate(checked, "document.getElementById('stage').hidden")
    assert checked.get_log("browser") == []


def test_predictions_are_filtered(checked: Browser) -> None:
    kinds = ["all", "right (4)", "wrong (2)", "unsure (2)"]
    assert options(checked, "prediction") == kinds
    for kind, expected in (
        ("right", {HOSTILE_NAME, ODD_NAME}),
        ("wrong", {"plain.jpg"}),
        ("unsure", {ODD_NAME}),
    ):
        set_control(checked, "#prediction", kind)
        assert {*card_names(checked)} == expected


def test_an_order_by_a_metric_is_of_one_method(gallery: Browser) -> None:
    note = "document.getElementById('order-note').value"
    assert evaluate(gallery, note) == ""
    set_control(gallery, "#order", "map's maximum")
    assert evaluate(gallery, note).startswith("map's maximum of gradcam: ")
    assert numbers(gallery)["plain.jpg"] == f"map's maximum {MAP.max():.0f}"
    set_control(gallery, "#method", "occlusion")
    assert evaluate(gallery, note) == ""
    assert numbers(gallery)["plain.jpg"] == f"map's maximum {MAP.max() - 40:.0f}"
    set_control(gallery, "#method", "")
    set_control(gallery, "#order", "deletion")
    assert numbers(gallery)["plain.jpg"] == "deletion 0.125"


def test_names_are_copied(checked: Browser) -> None:
    set_control(checked, "#prediction", "right")
    browser = checked
    browser.execute_script(
        "window.copied = null; navigator.clipboard.writeText = async text => { copied = text; }"
    )
    click(browser, "#copy-names")
    wait_for(browser, "window.copied !== null")
    assert evaluate(browser, "window.copied.split('\\n')") == [*card_names(browser), ""]
    assert evaluate(browser, "document.getElementById('shared').value") == "2 images: names copied"


def test_a_click_may_copy(checked: Browser) -> None:
    """Browsers allow it to a user only, so that the click is a real one."""
    checked.find_element("id", "copy-names").click()
    wait_for(checked, "document.getElementById('shared').value")
    assert evaluate(checked, "document.getElementById('shared').value") == "4 images: names copied"
    assert checked.get_log("browser") == []


def test_numbers_fit_their_cards(browser: Browser, checked_url: str) -> None:
    for width in (390, 800, 1200):
        open_page(browser, f"{checked_url}#order=off by", width=width)
        parts = "[...document.querySelectorAll('.numbers')]"
        assert evaluate(browser, f"{parts}.every(n => n.scrollHeight <= n.clientHeight)")


def test_without_a_clipboard_interface_names_are_copied_as_well(checked: Browser) -> None:
    checked.execute_script(
        "window.copied = null; navigator.clipboard.writeText = async () => { throw new Error(); };"
        "document.execCommand = () => { copied = document.activeElement.value; return true; }"
    )
    click(checked, "#copy-names")
    wait_for(checked, "window.copied !== null")
    assert evaluate(checked, "window.copied").splitlines() == card_names(checked)


def test_a_link_to_the_view(checked: Browser) -> None:
    set_control(checked, "#order", "shift")
    set_control(checked, "#verdict", "class changed")
    checked.execute_script(
        "window.copied = null; navigator.clipboard.writeText = async text => { copied = text; }"
    )
    click(checked, "#save-view")
    wait_for(checked, "window.copied !== null")
    link = evaluate(checked, "window.copied")
    assert parse_qs(link.partition("#")[2]) == {"order": ["shift"], "verdict": ["class changed"]}
    open_page(checked, link)
    assert card_names(checked) == [HOSTILE_NAME]


def test_the_selection_is_saved_as_csv(checked: Browser, tmp_path: Path) -> None:
    """The page's policy allows the download, and no cell is a formula."""
    allow_downloads(checked, tmp_path)
    set_control(checked, "#prediction", "wrong")
    click(checked, "#save-csv")
    file = tmp_path / "selection.csv"
    wait_until(file.exists)
    assert checked.get_log("browser") == []
    gradcam, occlusion = csv.DictReader(file.read_text().splitlines())
    assert gradcam["image"] == "plain.jpg"
    assert (gradcam["class"], gradcam["true"], gradcam["correct"]) == (
        HOSTILE_CLASS,
        "cat",
        "false",
    )
    assert (gradcam["method"], occlusion["method"]) == ("gradcam", "occlusion")
    assert (gradcam["verdict"], float(gradcam["off by"])) == ("changed", 0.64)
    assert gradcam["reasons"] == "values; correlation; hottest point"
    assert (gradcam["deletion"], occlusion["deletion"]) == ("0.125", "")


def test_cells_of_csv_are_no_formulas(browser: Browser, tmp_path: Path) -> None:
    folder, name = make_output_folder(tmp_path), '=1+"1",2.jpg'
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text(
        "".join(json.dumps(row | {"image": name}) + "\n" for row in rows if row["error"])
    )
    run_command("report", folder)
    open_page(browser, (folder / "report.html").as_uri())
    allow_downloads(browser, tmp_path)
    saved = tmp_path / "selection.csv"
    click(browser, "#save-csv")
    wait_until(lambda: saved.exists() and saved.stat().st_size > 0)
    first, _ = csv.DictReader(saved.read_text().splitlines())
    assert unguarded(first["image"]) == name
    assert first["image"].startswith("'=")
