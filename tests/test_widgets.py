import matplotlib.pyplot as plt
import pytest

from fuse_lib import widgets


def draw(height, kind):
    if kind == "broken":
        raise ValueError("no such kind")
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.bar(["a"], [height])
    ax.set(ylim=(0, 10))
    return fig


@pytest.fixture
def parts():
    box = widgets.explore(draw, height=widgets.slider(0, 10, 3), kind=widgets.choice(["bar", "broken"], "bar"))
    return box.children


def test_the_picture_follows_the_slider(parts):
    slider, _, _, picture = parts
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    slider.value = 9
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert bytes(picture.value) != before
    slider.value = 3
    assert bytes(picture.value) == before


def test_what_draw_raises_is_shown_and_the_next_value_works(parts):
    _, kind, message, _ = parts
    kind.value = "broken"
    assert "no such kind" in message.value
    kind.value = "bar"
    assert message.value == ""


def test_no_figure_is_left_open(parts):
    assert plt.get_fignums() == []


def test_controls_are_named_after_their_arguments_unless_labelled(parts):
    slider, kind, *_ = parts
    assert (slider.description, kind.description) == ("height", "kind")
    labelled = widgets.explore(lambda x: plt.figure(), x=widgets.slider(0.0, 1.0, 0.5, label="share"))
    assert labelled.children[0].description == "share"
    assert labelled.children[0].step == pytest.approx(0.02)
