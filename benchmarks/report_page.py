"""The size of a report, and how fast a browser opens it.

    python benchmarks/report_page.py OUT --cases 100    # noisy volumes, which compress badly: each case reaches its limit
    python benchmarks/report_page.py OUT                # a page that is there: OUT/run/report.html

It needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
from playwright.sync_api import Page, sync_playwright
from scipy.ndimage import gaussian_filter

from monai_jdt.cli import app

SHAPE = (160, 160, 60)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
#: Move the slider through all slices, and open ten cases. Return milliseconds for each.
SLICES = """() => {
  const slider = document.getElementById("slice"), start = performance.now();
  for (let n = 0; n <= Number(slider.max); n++) { slider.value = n; slider.dispatchEvent(new Event("input")); }
  return (performance.now() - start) / (Number(slider.max) + 1);
}"""
CASES = """async () => {
  const list = document.getElementById("case"), viewer = document.getElementById("viewer"), many = Math.min(10, list.length);
  const start = performance.now();
  for (let n = 0; n < many; n++) {
    delete viewer.dataset.open;
    list.selectedIndex = n;
    list.dispatchEvent(new Event("change"));
    while (!viewer.dataset.open) await new Promise((done) => setTimeout(done, 1));
  }
  return (performance.now() - start) / many;
}"""


def write_cases(folder: Path, cases: int) -> None:
    """Write volumes of two channels, two raters and a prediction each, and their list."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    bumps = gaussian_filter(rng.normal(size=SHAPE), 6)
    bumps *= 0.05 / bumps.std()
    items = []
    for number in range(cases):
        case = f"case{number:03d}"
        radius = np.sqrt((places**2).sum(0)) + np.roll(bumps, 7 * number, axis=0)
        files = {f"{case}_{c}.nii": rng.normal(300 - 200 * radius, 60).astype(np.int16) for c in "ab"}
        files |= {f"{case}_r{n}.nii.gz": (radius < limit).astype(np.uint8) for n, limit in enumerate((0.72, 0.78))}
        files[f"net/{case}.nii"] = (1 / (1 + np.exp((radius - 0.75) * 12))).astype(np.float32)
        for name, values in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / name)
        image, raters = [f"{case}_a.nii", f"{case}_b.nii"], [f"{case}_r0.nii.gz", f"{case}_r1.nii.gz"]
        items.append({"case": case, "image": image, "raters": raters})
    (folder / "list.json").write_text(json.dumps({"test": items}))


def measured(page: Page, path: Path) -> dict[str, float]:
    """Open a page: seconds until it is loaded, and until the first case is drawn; then milliseconds for each slice and case."""
    start = time.perf_counter()
    page.goto(path.absolute().as_uri())
    loaded = time.perf_counter() - start
    page.wait_for_function("document.getElementById('viewer').dataset.open")
    shown = time.perf_counter() - start
    return {"loaded, s": loaded, "first case, s": shown, "slice, ms": page.evaluate(SLICES), "case, ms": page.evaluate(CASES)}


def main() -> None:
    """Make a page if asked, open it three times, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=0, help="make so many cases first")
    parser.add_argument("--workers", default="1")
    arguments = parser.parse_args()
    run = arguments.folder / "run"
    if arguments.cases:
        write_cases(arguments.folder, arguments.cases)
        evaluate = ["evaluate", str(arguments.folder / "net"), str(arguments.folder / "list.json"), "--dest", str(run)]
        app([*evaluate, "--workers", arguments.workers], standalone_mode=False)
        app(["report", str(run), "--workers", arguments.workers], standalone_mode=False)
    page = run / "report.html"
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
    with sync_playwright() as playwright:
        for _ in range(3):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            opened = browser.new_page(viewport={"width": 1000, "height": 900})
            opened.set_default_timeout(120_000)
            row = {name: f"{value:.3g}" for name, value in measured(opened, page).items()}
            print(row, "load average", os.getloadavg()[0])
            browser.close()


if __name__ == "__main__":
    main()
