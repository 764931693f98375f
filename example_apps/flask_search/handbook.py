"""The documents: a small company's handbook, and a search in it by shared words."""

from __future__ import annotations

import re
from typing import NamedTuple


class Page(NamedTuple):
    title: str
    text: str


PAGES = (
    Page("Holidays", "Everybody has 30 days of holiday a year. Ask your team a month before you take many of them."),
    Page("Expenses", "Send receipts within 60 days. Trains are booked in second class, flights only beyond 700 km."),
    Page("Sick leave", "Tell your team before ten in the morning. From the fourth day on a doctor's note is needed."),
    Page("Laptops", "A laptop is replaced after four years, or earlier when it breaks. Disks have to be encrypted."),
    Page("Working from home", "Work from home as often as your team agrees. A desk and a chair are paid for once."),
)
_COMMON = set(re.findall(r"\w+", "a an and are as at do for have how i in is it many may my of on or the to what when"))


def search(query: str, limit: int = 2) -> list[Page]:
    """Return the pages that share most words with the query."""
    wanted = _words(query)
    ranked = sorted(PAGES, key=lambda page: -len(wanted & _words(f"{page.title} {page.text}")))
    return [page for page in ranked[:limit] if wanted & _words(f"{page.title} {page.text}")]


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"\w+", text.lower())} - _COMMON
