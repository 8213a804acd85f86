"""A hook of mkdocs: what pages link to outside of documentation/ is a name, or a link into the repository."""

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace links that lead out of the site.

    Args:
        markdown: of the page.
        page, config, files: of mkdocs.

    Returns:
        The page, with links to files of the site as they were.
    """
    place = posixpath.dirname(page.file.src_uri)
    known = {file.src_uri for file in files}

    def replaced(match: re.Match) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(place, target))
        if path in known:
            return match[0]
        inside = posixpath.normpath(posixpath.join("documentation", path))
        if not config.repo_url:
            return text if text.startswith("`") else f"{text} (`{inside}`)"
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{inside}{anchor})"

    return _LINK.sub(replaced, markdown)
