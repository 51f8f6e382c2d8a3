"""The pages on a screen 390 pixels wide: nothing sticks out sideways; what is wider scrolls in a box of its own."""

import pytest

from fuse_lib import course as whole
from fuse_lib import notebooks
from tests.notebooks import course
from tests.notebooks.test_browser import CHROMIUM, DRIVER, FLAGS

WIDTH = 390
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium (Debian: apt install chromium-driver)")

# What begins or ends beyond the screen and lies in no box that can be scrolled; and the text of formulas that are
# wider than their own box, whose overflow must be that of a box that scrolls.
STICKS_OUT = """
const width = document.documentElement.clientWidth, found = [];
const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
                     && e.getBoundingClientRect().right <= width + 1;
for (const e of document.querySelectorAll('body *')) {
  const box = e.getBoundingClientRect();
  if (!box.width || (box.right <= width + 1 && box.left >= -1)) continue;
  let around = e.parentElement;
  while (around !== document.body && !scrolls(around)) around = around.parentElement;
  if (around === document.body) found.push(`${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`);
}
if (document.documentElement.scrollWidth > width) found.push(`the page: ${document.documentElement.scrollWidth}`);
return found;
"""
STUCK = """
return [...document.querySelectorAll('math[display=block], .jp-RenderedImage, .highlight pre, table')].filter(e => {
  if (e.scrollWidth <= e.clientWidth + 1) return false;
  e.scrollLeft = 1e4;
  return e.scrollLeft < e.scrollWidth - e.clientWidth - 1;
}).map(e => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`);
"""


@pytest.fixture(scope="module")
def phone():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    screen = {"width": WIDTH, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield driver
    driver.quit()


def look(phone, page):
    phone.get(page.resolve().as_uri())
    assert phone.execute_script("return document.documentElement.clientWidth") == WIDTH
    return phone.execute_script(STICKS_OUT), phone.execute_script(STUCK)


@course.each
def test_a_notebooks_page_fits(path, phone, tmp_path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    sticks_out, stuck = look(phone, notebooks.write_page(copy))
    assert not sticks_out
    assert not stuck, "it is cut off, and cannot be scrolled"


def test_the_index_of_the_course_fits(phone, tmp_path):
    chapters = []
    for path in course.ALL:
        (tmp_path / path.name).write_bytes(path.read_bytes())
        notebooks.write_figures(tmp_path / path.name)
        figures = tuple(notebooks.figures(path))
        failure = "a cell failed with a very_long_word_" + 20 * "of_which_there_is_no_end_"
        chapters.append(whole.Chapter(path.stem, notebooks.title(path), 1, 0.5, failure, False, figures))
    assert look(phone, whole.write_index(tmp_path, chapters, ["99_to_come"])) == ([], [])


def test_what_sticks_out_is_found(phone, tmp_path):
    """The measure itself: one box too wide, one that scrolls, one that is cut off."""
    page = tmp_path / "page.html"
    head = '<!DOCTYPE html><meta name="viewport" content="width=device-width, initial-scale=1, minimum-scale=1">'
    inner = '<div style="width: 900px">wide</div>'
    page.write_text(f'{head}<div style="overflow-x: auto">{inner}</div>')
    assert look(phone, page) == ([], [])
    page.write_text(f'{head}<table style="display: block; overflow-x: hidden"><tr><td>{inner}</td></tr></table>')
    assert look(phone, page)[0]
    page.write_text(f"{head}{inner}")
    assert any(found.startswith("the page") for found in look(phone, page)[0])
