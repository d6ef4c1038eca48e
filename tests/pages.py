"""What the tests of the page share: writing one, and working its controls in a browser."""

import itertools

from keras_charlm.export import web


def write(model, folder, content=None, **options):
    """Write the page of a model with its own on-device file, or with this one."""
    folder.mkdir()
    return web.write(model, folder, content or model.device_file.read_bytes(), **options)


def distinct(samples, num):
    """The first texts of samples without repetitions, as the page lists them."""
    return list(itertools.islice(dict.fromkeys(s.prompt + s.text for s in samples), num))


def wait(page, state):
    page.wait_for_selector(f"html[data-state={state}]", state="attached", timeout=60_000)


def run(page, **fields):
    """Fill the form, press the button, and wait for the end: the status line."""
    page.locator("#more").evaluate("more => { more.open = true }")
    for name, value in fields.items():
        page.fill(f"#{name.replace('_', '-')}", str(value))
    page.locator("html").evaluate("root => delete root.dataset.seconds")
    page.click("#go")
    page.wait_for_selector("html[data-seconds]", state="attached", timeout=60_000)
    return page.text_content("#status")


def drawn(page):
    return page.locator("#list button").evaluate_all("all => all.map(b => b.dataset.text)")


def warm(page, value):
    page.locator("#temperature").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }",
        value,
    )
