"""In JupyterLab, in a browser: run all cells, move a slider by the keyboard, and see the figure change.

Every notebook that has a slider, and a tiny one. Skipped where there is no Chromium.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import nbformat
import pytest

from tests.notebooks import course

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,1000",
)  # fmt: skip
WITH_WIDGET = [p for p in course.ALL if any(course.has_widget(c) for c in course.load(p).cells)]
RUNS = 600  # seconds that a notebook may take on a busy machine
TINY = [
    "import matplotlib.pyplot as plt\nfrom fuse_lib.widgets import explore, slider",
    "def draw(height):\n    fig, ax = plt.subplots(figsize=(3, 2))\n    ax.bar(['a'], [height])\n"
    "    ax.set(ylim=(0, 10))\n    return fig",
    "explore(draw, height=slider(0, 10, 3))",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium (Debian: apt install chromium chromium-driver)"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a free port without a token, with copies of the notebooks. → its address and folder."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    for path in WITH_WIDGET:
        shutil.copy(path, folder)
    cells = [nbformat.v4.new_code_cell(source) for source in TINY]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "tiny.ipynb")
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port = any_socket.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}",
               "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    kinds = ("_CONFIG", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
    settings = {f"JUPYTER{kind}_DIR": str(home / kind) for kind in kinds}  # the user's own are left alone
    address = f"http://127.0.0.1:{port}"
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait(lambda: answers(f"{address}/api"), 120, lambda: (home / "log").read_text()[-3000:])
            yield address
        finally:
            process.terminate()
            process.wait(30)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def wait(ready, seconds, said=lambda: ""):
    """Until `ready()` is true. → its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s. {said()}")


@contextmanager
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Lab:
    """One notebook open in JupyterLab. What a person does by menu and mouse goes through the page's own commands."""

    def __init__(self, driver, address, name):
        self.driver = driver
        driver.get(f"{address}/lab/tree/{name}?reset")
        ready = "return window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        wait(lambda: driver.execute_script(ready), 90, self.text)

    def text(self):
        return self.driver.execute_script("return document.body.innerText")[-2000:]

    def model(self, code):
        """The value of a JavaScript expression of `cells`, the notebook's code cells, and `kernel`."""
        return self.driver.execute_script(
            "const panel = window.jupyterapp.shell.currentWidget, kernel = panel.sessionContext.session.kernel.status;"
            "const cells = panel.content.widgets.filter(w => w.model.type === 'code').map(w => w.model.sharedModel);"
            f"return {code}"
        )

    def run_all(self):
        run = "const done = arguments[0]; window.jupyterapp.commands.execute('runmenu:run-all').then(done, done)"
        self.driver.set_script_timeout(RUNS)
        self.driver.execute_async_script(run)
        wait(
            lambda: self.model("kernel === 'idle' && cells.every(c => c.execution_count || !c.source.trim())"),
            RUNS,
            self.text,
        )
        errors = self.model("cells.flatMap(c => c.outputs).filter(o => o.output_type === 'error').map(o => o.evalue)")
        assert errors == []

    def show(self, number):
        """Scroll to a cell (counted in all cells): JupyterLab keeps only those in the page that are in view."""
        go = (
            "const done = arguments[1], content = window.jupyterapp.shell.currentWidget.content;"
            "content.activeCellIndex = arguments[0]; content.scrollToCell(content.activeCell).then(done, done)"
        )
        self.driver.execute_async_script(go, number)

    def find(self, css):
        """The shown elements of the active cell."""
        found = self.driver.find_elements("css selector", f".jp-Cell.jp-mod-active {css}")
        return [element for element in found if element.is_displayed()]


def moves_a_slider_and_sees_the_figure_change(address, name, number):
    from selenium.webdriver import Keys

    with browser() as driver:
        lab = Lab(driver, address, name)
        lab.run_all()
        lab.show(number)
        wait(lambda: lab.find(".noUi-handle") and lab.find("img.widget-image"), 30, lab.text)
        handle, figure = lab.find(".noUi-handle")[0], lab.find("img.widget-image")[0]
        value, before = handle.get_attribute("aria-valuenow"), figure.get_attribute("src")
        driver.execute_script("arguments[0].focus()", handle)
        key = Keys.ARROW_RIGHT if float(value) < float(handle.get_attribute("aria-valuemax")) else Keys.ARROW_LEFT
        handle.send_keys(key)
        wait(lambda: figure.get_attribute("src") != before, 60, lab.text)
        assert handle.get_attribute("aria-valuenow") != value
        assert int(driver.execute_script("return arguments[0].naturalWidth", figure)) > 100


def test_a_tiny_notebook(server):
    moves_a_slider_and_sees_the_figure_change(server, "tiny.ipynb", len(TINY) - 1)


@pytest.mark.parametrize("path", WITH_WIDGET, ids=lambda p: p.stem)
def test_a_notebook_with_a_slider(server, path):
    cells = course.load(path).cells
    number = next(n for n, cell in enumerate(cells) if course.has_widget(cell))
    moves_a_slider_and_sees_the_figure_change(server, path.name, number)
