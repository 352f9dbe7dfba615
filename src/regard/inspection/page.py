"""Self-contained web pages: data as inert JSON, one style, one script, and a policy that forbids everything else."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Protocol, runtime_checkable

LONGEST_TITLE = 90
"""Characters."""


@runtime_checkable
class Viewable(Protocol):
    """What the attention viewer can draw."""

    def view(self) -> dict[str, Any]:
        """Pieces and words of both sides and the maps between them, as plain data."""


def attention_page(maps: Sequence[Viewable], title: str) -> str:
    """One HTML page to look at attention maps in, without network; several maps come with a chooser."""
    return page(title, attention_viewer(maps))


def attention_viewer(maps: Sequence[Viewable]) -> str:
    """The interactive part of a page, at most one in each; a sentence if the models of all maps have no attention."""
    views = [view for view in (one.view() for one in maps) if view["maps"]]
    nothing = f"<p>{both('This model has no attention to look at.', '这个模型没有注意力可看。')}</p>" if maps else ""
    return fill(template("attention"), data=embed(views)) if views else nothing


def page(title: str, body: str) -> str:
    """A whole page around a body of safe HTML; no script runs in it but the viewer's, whatever the body holds.

    Of a long title the beginning stands there.
    """
    if len(title) > LONGEST_TITLE:
        title = f"{title[: LONGEST_TITLE - 1].rstrip()}…"
    return fill(template("page"), title=html.escape(title), script_hash=_script_hash(), body=body)


@cache
def template(name: str) -> str:
    return resources.files("regard.inspection").joinpath(f"{name}.html").read_text("utf-8")


def fill(text: str, **values: str) -> str:
    """Every ``{{name}}`` replaced by its value in one pass, so that a value is never read as a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], text)


def embed(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def both(english: str, chinese: str, tag: str = "span") -> str:
    """A label in both languages; the page shows the one chosen."""
    return f'<{tag} class="en">{html.escape(english)}</{tag}><{tag} class="zh" lang="zh">{html.escape(chinese)}</{tag}>'


def _script_hash() -> str:
    """The content security policy's name for the viewer's script."""
    script = template("attention").rpartition("<script>")[2].partition("</script>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
