"""What the pages name exists: files of the repository, other pages, pictures."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *(ROOT / "documentation").rglob("*.md")] if page.name != "CHANGELOG.md"
)
PLACES = [
    ROOT,
    ROOT / "nnunet_xmodal",
    *(ROOT / "nnunet_xmodal" / room for room in ("networks", "networks/blocks", "losses", "tasks/few_shot")),
    ROOT / "nnunet_xmodal" / "tasks" / "registration",
    ROOT / "trainers",
]
"""From where pages name source files."""

SOURCE = re.compile(r"`((?:[\w.]+/)*\w+\.py)`")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?")
HEADING = re.compile(r"^#+ (.+?) *$", re.MULTILINE)
FOLDER = re.compile(r"`((?:nnunet_xmodal|trainers|planners|tests|benchmarks)/(?:\w+/)*)`")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    for name in [*SOURCE.findall(text), *FOLDER.findall(text)]:
        assert any((place / name).exists() for place in PLACES), f"{name} does not exist"
    for name in re.findall(r"(?:python |`)(benchmarks/[\w/]+\.py)", text):
        assert (ROOT / name).is_file(), f"{name} does not exist"
    for link, place in LINK.findall(text):
        if not re.match(r"[a-z]+:", link):
            target = page.parent / link if link else page
            assert target.exists(), f"the link {link} leads nowhere"
            if place and target.suffix == ".md":
                assert place in places_of(target), f"{link} has no #{place}"


def places_of(page):
    """What can stand behind the # of a link to a page, for headings as this project has them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text))
    ascii_ones = (unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode() for title in titles)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in ascii_ones}


def test_every_page_is_in_the_sites_navigation():
    listed = set(re.findall(r"\S+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {page.relative_to(ROOT / "documentation").as_posix() for page in (ROOT / "documentation").rglob("*.md")}
    assert pages == listed
