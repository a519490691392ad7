"""docs/images/report_*.png: a report's page in headless Chromium, at desktop and phone width, light and dark.

    python tools/report_pictures.py FOLDER/quantization_report.html [--out docs/images] [--chromium /usr/bin/chromium]

Needs `pip install playwright pillow` and a Chromium. Fails when the page is wider than its window, loads anything, or
writes to the console.
"""

import argparse
import io
import pathlib

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTHS = {1280: 900, 390: 844}


def take(browser, file, scheme, width):
    """The whole page as a picture, and where some of its headings stand."""
    context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    page, loaded, said = context.new_page(), [], []
    page.on("request", lambda request: loaded.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide or said or loaded != [file.as_uri()]:
        raise SystemExit(f"{scheme} {width}: {wide} pixels too wide, loaded {loaded}, console {said}")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    tops = {name: int(page.locator(f"#{name}").bounding_box()["y"]) for name in ("maps", "histograms")}
    context.close()
    return picture, tops


def save(picture, path):
    picture.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        shots = {(scheme, width): take(browser, args.page.resolve(), scheme, width)
                 for scheme in ("light", "dark") for width in WIDTHS}
        browser.close()
    light, _ = shots["light", 1280]
    save(light.crop((80, 0, 1200, 1240)), args.out / "report_light.png")
    dark, tops = shots["dark", 1280]
    save(dark.crop((80, tops["histograms"] - 500, 1200, tops["histograms"] + 700)), args.out / "report_dark.png")
    for scheme, name in (("light", "report_phone.png"), ("dark", "report_phone_dark.png")):
        phone, tops = shots[scheme, 390]
        sheet = Image.new("RGB", (390 * 3 + 40, 1300), "#888888")
        for column, top in enumerate((0, tops["maps"], tops["histograms"])):
            sheet.paste(phone.crop((0, top, 390, top + 1300)), (410 * column, 0))
        save(sheet, args.out / name)


if __name__ == "__main__":
    main()
