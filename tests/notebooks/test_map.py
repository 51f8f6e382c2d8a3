"""The map in notebooks/README.md and the instructors' page say what is there, and nothing else."""

import itertools
import re

import pytest

from fuse_lib import exercises, notebooks
from tests.notebooks import course

PAGES = ("README.md", "INSTRUCTORS.md")


def read(name):
    return (course.FOLDER / name).read_text(encoding="utf-8")


def test_the_map_has_a_row_for_each_notebook_in_order_with_its_title_and_minutes():
    rows = re.findall(r"^\| \[(.+?)\]\((\w+\.ipynb)\) \| .+? \| (\d+) \| (\d+) \|", read("README.md"), re.M)
    assert rows == [(notebooks.title(p), p.name, *map(str, course.minutes(p))) for p in course.ALL]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", read(name)):
        assert (course.FOLDER / target).exists(), target


def test_the_instructors_page_names_exercises_that_there_are():
    named = re.findall(r"\b\d\d\.\d+\b", read("INSTRUCTORS.md"))
    assert named
    assert set(named) <= set(exercises.keys())


def test_each_exercise_is_for_the_room_or_for_home():
    """In its notebook's section of the instructors' page, after "In the room" or "At home"."""
    keys, before = exercises.keys(), read("INSTRUCTORS.md").partition("## Where people stumble")[0]
    _, *sections = re.split(r"^### (?=\d\d ·)", before, flags=re.M)
    assert [s[:2] for s in sections] == [p.stem[:2] for p in course.ALL]
    for section in sections:
        given = re.findall(r"\b\d\d\.\d+\b", section.partition("- **In the room**")[2])
        assert sorted(given) == sorted(key for key in keys if key.startswith(section[:2]))


def test_the_plans_add_up():
    """Each row begins where the one before ended."""
    for table in re.findall(r"(?:^\|.*\n)+", read("INSTRUCTORS.md"), re.M):
        spans = re.findall(r"^\| ([\d:]+)–([\d:]+) \|", table, re.M)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(spans)), spans
