"""The elements of a page, and text made harmless for them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from aigc_text.utils.visible_text import visible


def escaped(text: object) -> str:
    """Any text as the content of an element or of a quoted attribute: no tag, no entity, nothing invisible."""
    return html.escape(visible(str(text)), quote=True)


def element(name: str, *content: str, **attributes: object) -> str:
    """An element of a page.

    Args:
        name: of the element.
        content: markup, so text must be `escaped` before.
        attributes: text, which is escaped here; `class_` is `class`, and `data_label` is `data-label`. `None` leaves
            one out, `""` writes it empty.
    """
    names = {k: k.rstrip("_").replace("_", "-") for k in attributes}
    given = "".join(f' {names[k]}="{escaped(v)}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{given}>{''.join(content)}</{name}>"


def paragraph(text: object, class_: str | None = None) -> str:
    return element("p", escaped(text), class_=class_)


def bullets(texts: Iterable[object]) -> str:
    """A list of texts; nothing if there is none."""
    items = [element("li", escaped(text)) for text in texts]
    return element("ul", *items, class_="notes") if items else ""


def table(rows: Sequence[Sequence[object]], caption: str = "", class_: str = "wide") -> str:
    """A table of texts in a box of its own, so that a wide one scrolls and the page does not.

    Args:
        rows: the heading first; in each row the first cell names it.
        caption: what the table is.
        class_: of the box; `words` beside `wide` for a table of texts, whose lines are broken; `stacked` for one that
            narrow screens show as a list of its cells, each with its heading.
    """
    head = element("tr", *(element("th", escaped(cell), scope="col") for cell in rows[0]))
    labels = rows[0] if "stacked" in class_.split() else [None] * len(rows[0])
    body = [
        element(
            "tr",
            element("th", escaped(row[0]), scope="row"),
            *(element("td", escaped(c), data_label=label) for c, label in zip(row[1:], labels[1:], strict=True)),
        )
        for row in rows[1:]
    ]
    title = element("caption", escaped(caption)) if caption else ""
    return element("div", element("table", title, element("thead", head), element("tbody", *body)), class_=class_)
