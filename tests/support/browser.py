"""Drive a report's page in Chromium."""

from __future__ import annotations

from typing import Any, TypeAlias

Browser: TypeAlias = Any
"""selenium's driver. selenium may not be installed."""
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
END, HOME, ENTER, ESCAPE = "\ue010", "\ue011", "\ue007", "\ue00c"
VIEWER_IS_OPEN = "document.getElementById('viewer').open"
NAME_IN_VIEWER = "document.getElementById('name').textContent"
FOCUSED_CARD = "document.activeElement.title"


def open_page(
    browser: Browser, url: str, width: int = 1200, height: int = 800, theme: str = "light"
) -> Browser:
    """Load a page in a window of this size and forget which files were requested before."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get(url)
    return browser


def evaluate(browser: Browser, expression: str, *arguments: Any) -> Any:
    """Return the value of a JavaScript expression."""
    return browser.execute_script(f"return {expression}", *arguments)


def card_names(browser: Browser) -> list[str]:
    names: list[str] = evaluate(
        browser, "[...document.querySelectorAll('.card b')].map(b => b.textContent)"
    )
    return names


def set_control(browser: Browser, selector: str, value: object) -> None:
    """Set the value of a control as if a user had entered it."""
    browser.execute_script(
        "const control = document.querySelector(arguments[0]); control.value = arguments[1];"
        "control.dispatchEvent(new Event('input', {bubbles: true}))", selector, value,
    )  # fmt: skip


def click(browser: Browser, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def press(browser: Browser, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def wait_for_frame(browser: Browser) -> None:
    """Wait until everything that was requested is drawn."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def wait_for(browser: Browser, condition: str) -> None:
    """Wait until a JavaScript expression is true, at most as long as scripts may take."""
    browser.execute_async_script(
        "const done = arguments[0];"
        f"const check = () => ({condition}) ? done() : requestAnimationFrame(check); check()"
    )


def open_image(browser: Browser, name: str) -> None:
    """Open an image by clicking its card."""
    browser.execute_script(
        "[...document.querySelectorAll('.card')].find(c => c.title === arguments[0]).click()", name
    )
    wait_for(browser, VIEWER_IS_OPEN)


def pictures_load(browser: Browser) -> bool:
    """Return whether all pictures of images could be loaded."""
    loaded: bool = browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('.picture img')].map(i => i.decode()))"
        ".then(() => done(true), () => done(false))"
    )
    return loaded
