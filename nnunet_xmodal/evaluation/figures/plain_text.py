"""Names of people's files, models and labels as matplotlib draws them: as they are written."""


def plain_text(name: str) -> str:
    """Return text that is drawn as it is: nothing between two dollars is a formula, and no legend leaves it out."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
