"""In JupyterLab, in a browser: run all cells, move a control, and see the figure change.

Notebooks that have controls (03 and 04; all with FUSE_ALONE=all, `make alone`), and tiny ones.
Skipped where there is no Chromium.
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
WITH_WIDGET = [p for p in course.CHOSEN if any(course.has_widget(c) for c in course.load(p).cells)]
RUNS = 600  # seconds that a notebook may take on a busy machine
CONTROLS = ".noUi-handle, .widget-dropdown select"
SOURCE = [
    "import matplotlib.pyplot as plt\nfrom fuse_lib.widgets import choice, explore, slider",
    "def draw(height):\n    fig, ax = plt.subplots(figsize=(3, 2))\n    ax.bar(['a'], [height])\n"
    "    ax.set(ylim=(0, 10))\n    return fig",
]
TINY = {"slider": "explore(draw, height=slider(0, 10, 3))", "choice": "explore(draw, height=choice([3, 6], 3))"}

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
    for name, last in TINY.items():
        cells = [nbformat.v4.new_code_cell(source) for source in [*SOURCE, last]]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port = any_socket.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}",
               "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]  # fmt: skip
    kinds = ("_CONFIG", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
    settings = {f"JUPYTER{kind}_DIR": str(home / kind) for kind in kinds}  # the user's own are left alone
    news = home / "LAB_SETTINGS" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # no question in the way
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
        wait(lambda: driver.execute_script(ready), 180, self.text)

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


def moves_a_control_and_sees_the_figure_change(address, name, number):
    from selenium.webdriver import Keys
    from selenium.webdriver.support.select import Select

    with browser() as driver:
        lab = Lab(driver, address, name)
        lab.run_all()
        lab.show(number)
        wait(lambda: lab.find(CONTROLS) and lab.find("img.widget-image"), 30, lab.text)
        control, figure = lab.find(CONTROLS)[0], lab.find("img.widget-image")[0]
        before = figure.get_attribute("src")
        if control.tag_name == "select":  # JupyterLab takes the arrow keys up and down for itself
            options = Select(control).options
            options[0 if options[-1].is_selected() else -1].click()
        else:
            at_end = control.get_attribute("aria-valuenow") == control.get_attribute("aria-valuemax")
            driver.execute_script("arguments[0].focus()", control)
            control.send_keys(Keys.LEFT if at_end else Keys.RIGHT)
        wait(lambda: figure.get_attribute("src") != before, 60, lab.text)
        assert int(driver.execute_script("return arguments[0].naturalWidth", figure)) > 100


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_notebook(server, name):
    moves_a_control_and_sees_the_figure_change(server, f"{name}.ipynb", 2)


@pytest.mark.parametrize("path", WITH_WIDGET, ids=lambda p: p.stem)
def test_a_notebook_with_controls(server, path):
    cells = course.load(path).cells
    number = next(n for n, cell in enumerate(cells) if course.has_widget(cell))
    moves_a_control_and_sees_the_figure_change(server, path.name, number)
