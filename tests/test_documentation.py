"""What the pages name exists: files of the repository, other pages, pictures."""

import re
import unicodedata
from pathlib import Path

import pytest

from nnunet_xmodal.trainers import TRAINERS

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


OF_EXPERIMENTS = {
    name
    for script in (ROOT / "benchmarks" / "experiments").glob("*.py")
    for name in re.findall(r"class (nnUNetTrainer\w+)", script.read_text(encoding="utf-8"))
}
NAME = re.compile(r"\bnnUNetTrainer[A-Z0-9]\w*\b(?!\$)")
STOCK_WITH_OURS = re.compile(r"^nnUNetv2_(?:train|predict) .*-tr nnUNetTrainer[A-Z]", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_trainer_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    written_here = set(re.findall(r"class (nnUNetTrainer\w+)", text)) | OF_EXPERIMENTS
    for name in NAME.findall(text):
        name = re.sub(r"_\d+epochs(_\d+its)?.*|__.*", "", name)
        assert name in TRAINERS or name in written_here, f"{name} does not exist"


@pytest.mark.parametrize("page", sorted((ROOT / "documentation" / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_stock_commands_are_told_first_where_our_trainers_are(page):
    """Who copies the first block of a page into a new shell would read that nnU-Net could not find the trainer."""
    text = page.read_text(encoding="utf-8")
    stock, told = STOCK_WITH_OURS.search(text), re.search(r"nnUNetXModal_env|nnUNet_extTrainer=", text)
    assert not stock or (told and told.start() < stock.start())
