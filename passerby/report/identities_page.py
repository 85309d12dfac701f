"""The page of people over cameras: each one as a row of crops and a timeline, in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from passerby.association.associate import Association
from passerby.association.scores import AssociationScores
from passerby.files import atomic_write
from passerby.report.person_rows import identity_row, people_with_errors, time_span, time_text, true_person_row

MOST_PEOPLE = 150
"""Most rows of identities, and as many of true people, so that the page stays below some megabytes."""


def write_identities_page(
    path: Path, association: Association, scores: AssociationScores | None, sentences: Sequence[str] = ()
) -> None:
    """Write the page of an association.

    Where the truth is known, it begins with a row for each true person who was split or merged with others. Then come
    the identities, those with errors first, then those with the most tracklets. Crops that cannot be read are marked.

    Args:
        path: the file.
        association: identities of the tracklets.
        scores: against the truth, None = unknown.
        sentences: results in words; the first is the headline.

    """
    order = _order(association, scores)
    wrong = [] if scores is None else people_with_errors(association, scores)
    span = time_span(association)
    page = _template().render(
        lead=sentences[0] if sentences else f"{association.count:,} people",
        sentences=list(sentences[1:]),
        known=0 if scores is None else scores.people,
        right=0 if scores is None else scores.people - len(wrong),
        wrong=[true_person_row(association, person, span) for person in wrong[:MOST_PEOPLE]],
        wrong_left_out=max(len(wrong) - MOST_PEOPLE, 0),
        people=[identity_row(association, scores, number, span) for number in order[:MOST_PEOPLE]],
        left_out=max(len(order) - MOST_PEOPLE, 0),
        begin=time_text(span[0]),
        end=time_text(span[1]),
    )
    with atomic_write(path) as file:
        file.write(page.encode(errors="backslashreplace"))


@cache
def _template() -> Template:
    text = resources.files("passerby.report").joinpath("identities.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)


def _order(association: Association, scores: AssociationScores | None) -> list[int]:
    """Return the identities, those with errors first, then by falling number of tracklets."""
    sizes = np.bincount(association.identity, minlength=association.count)
    wrong = np.zeros(association.count, np.bool_)
    if scores is not None:
        wrong[list(scores.merged)] = True
        wrong[association.identity[np.isin(association.tracklets.pid, scores.split)]] = True
    return [int(number) for number in np.lexsort((np.arange(association.count), -sizes, ~wrong))]
