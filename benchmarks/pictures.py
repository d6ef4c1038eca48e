"""Take a picture of a page that the program wrote, with Chromium: `python -m benchmarks.pictures`.

kcharlm report saved_models/shakespeare
python -m benchmarks.pictures saved_models/shakespeare/report.html docs/images/report.png

docs/inspecting.md has the commands behind code.html.
python -m benchmarks.pictures code.html docs/images/inspect.png --width 1200 --height 800 --keys j o
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1080, help="width of the window in pixels")
    parser.add_argument("--height", type=int, default=1240, help="and its height")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument(
        "--keys", nargs="*", default=(), help="keys to press first, e.g. ArrowRight"
    )
    arguments = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height},
            color_scheme="dark" if arguments.dark else "light",
        )
        page.goto(arguments.page.resolve().as_uri())
        page.wait_for_selector("html:not([data-state=loading])", state="attached")
        for key in arguments.keys:
            page.keyboard.press(key)
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=arguments.picture)
        browser.close()


if __name__ == "__main__":
    main()
