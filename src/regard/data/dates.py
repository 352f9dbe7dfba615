"""Dates as people write them in many locales and scripts, and the same dates in ISO 8601: the data of ``regard demo``.

How a locale writes a date is real: patterns, names and digits are those of the Unicode Common Locale Data Repository
(CLDR), through Babel. Which dates are written is generated. The locale is the row's tag, for ``3/4/2025`` is the third
of April in en_GB and the fourth of March in en_US.

All dates are of the Gregorian calendar, even where another one is common, as in Thailand, Iran, Nepal and Ethiopia.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import cache
from hashlib import blake2b
from itertools import cycle, islice
from typing import Literal

import babel
from babel import Locale, UnknownLocaleError, localedata
from babel.dates import parse_pattern, tokenize_pattern
from pydantic import Field, field_validator

from regard.data.corpus import Corpus
from regard.data.rows import Row, TextRows
from regard.errors import SettingsError, did_you_mean
from regard.settings import Settings

FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)

DEFAULT_LOCALES = tuple(
    """
    en_US en_GB en_CA de_DE fr_FR es_ES pt_BR it_IT nl_NL sv_SE da_DK nb_NO fi_FI is_IS et_EE lv_LV lt_LT pl_PL cs_CZ
    hr_HR hu_HU ro_RO sq_AL tr_TR vi_VN id_ID sw_KE eu_ES ca_ES ga_IE ru_RU uk_UA bg_BG sr_RS kk_KZ mn_MN el_GR ar_EG
    fa_IR ur_PK he_IL hi_IN mr_IN ne_NP bn_BD pa_IN gu_IN ta_IN te_IN kn_IN ml_IN si_LK th_TH lo_LA km_KH my_MM ka_GE
    hy_AM am_ET zh_CN zh_TW ja_JP ko_KR
    """.split()
)

# Babel writes 0-9 everywhere, people do not. CLDR's name of a numbering system: Unicode's name of its digits.
DIGITS = {
    "latn": "",
    "adlm": "ADLAM ",
    "arab": "ARABIC-INDIC ",
    "arabext": "EXTENDED ARABIC-INDIC ",
    "beng": "BENGALI ",
    "cakm": "CHAKMA ",
    "deva": "DEVANAGARI ",
    "hmnp": "NYIAKENG PUACHUE HMONG ",
    "mtei": "MEETEI MAYEK ",
    "mymr": "MYANMAR ",
    "nkoo": "NKO ",
    "olck": "OL CHIKI ",
    "tibt": "TIBETAN ",
}

NAME = "N"  # a month's place in an order when it is a word, which nobody takes for a day


class Dates(Settings):
    """Pairs of a date in a locale's writing and in ISO 8601; the locale is the tag. Counts are rows.

    No date is on two sides of the split, in whatever locale; locales and their forms are evenly spread on every side.
    """

    kind: Literal["dates"] = "dates"
    locales: tuple[str, ...] = Field(default=DEFAULT_LOCALES, min_length=1, description="language_TERRITORY")
    train: int = Field(default=60_000, ge=1)
    dev: int = Field(default=500, ge=1, le=10_000)
    test: int = Field(default=2_000, ge=1, le=10_000)
    seed: int = 1

    @field_validator("locales")
    @classmethod
    def _known(cls, locales: tuple[str, ...]) -> tuple[str, ...]:
        for locale in locales:
            _find(locale)
        return locales

    def load(self) -> Corpus:
        """The same rows on every machine with the same Babel."""
        dates = iter(_shuffled(self.seed))
        test = TextRows.of(self._rows(islice(dates, self.test)))
        dev = TextRows.of(self._rows(islice(dates, self.dev)))
        train = TextRows.of(self._rows(islice(cycle(dates), self.train)))
        return Corpus(train, dev, test, self._notes())

    def _rows(self, dates: Iterable[date]) -> Iterator[Row]:
        """Locales take turns, and so do the forms of each."""
        for number, day in enumerate(dates):
            turn, place = divmod(number, len(self.locales))
            locale = self.locales[place]
            choices = forms(locale)
            text = write(day, locale, choices[turn % len(choices)])
            yield {"source": text, "target": day.isoformat(), "tag": locale}

    def _notes(self) -> tuple[str, ...]:
        count = sum(len(forms(locale)) for locale in self.locales)
        return (
            f"Real: {count} ways of writing a date in {len(self.locales)} locales, from CLDR through Babel "
            f"{babel.__version__}.",
            f"Generated: the dates, any day from {FIRST} to {LAST} of the Gregorian calendar; no date of the dev or "
            "test rows occurs in training.",
        )


@cache
def forms(locale: str) -> tuple[str, ...]:
    """The CLDR date patterns of a locale that determine a date, such as ``"d MMMM y"``: its standard formats first.

    Left out are patterns without a day, a month or a year in full, and those whose day and month could be taken for
    each other: another pattern of the locale has these numbers in the other order, and no standard format in this one.

    Raises:
        SettingsError: Babel does not know the locale.
    """
    found = _find(locale)
    standard = [pattern.pattern for pattern in found.date_formats.values()]
    offered = [*standard, *(pattern.pattern for pattern in found.datetime_skeletons.values())]
    usual, orders = {_order(form) for form in standard}, {_order(form) for form in offered}
    clear = usual | {order for order in orders if _swapped(order) not in orders}
    return tuple(dict.fromkeys(form for form in offered if _is_full(form) and _order(form) in clear))


def write(day: date, locale: str, form: str) -> str:
    """A date in one of a locale's `forms`, in the digits that CLDR gives as the locale's default.

    Raises:
        SettingsError: Babel does not know the locale.
    """
    found = _find(locale)
    return parse_pattern(form).apply(day, found).translate(_digits(found.default_numbering_system))


@cache
def _find(locale: str) -> Locale:
    try:
        return Locale.parse(locale)
    except (UnknownLocaleError, ValueError):
        same_language = [known for known in localedata.locale_identifiers() if known[:2] == locale[:2]]
        hint = did_you_mean(locale, same_language or DEFAULT_LOCALES)
        raise SettingsError(f"no locale '{locale}' in Babel {babel.__version__}", where="locales", hint=hint) from None


@cache
def _digits(system: str) -> dict[int, int]:
    """From the code points of 0-9 to those of a numbering system; one that is not listed keeps 0-9."""
    zero = ord(unicodedata.lookup(f"{DIGITS.get(system, '')}DIGIT ZERO"))
    return {ord("0") + digit: zero + digit for digit in range(10)}


def _fields(form: str) -> dict[str, int]:
    """Letter and width of every field of a CLDR pattern, in order: ``{"d": 1, "M": 4, "y": 1}`` for ``"d MMMM y"``."""
    return dict(value for _, value in tokenize_pattern(form) if isinstance(value, tuple))


def _is_full(form: str) -> bool:
    """Whether a form holds a day, a month and a year, and nothing but a date."""
    widths = _fields(form)
    two_digits, narrow = 2, 5  # of a year; of a month: "J" is January, June and July
    has_year = widths.get("y", two_digits) != two_digits
    has_month = widths.get("M", widths.get("L", narrow)) < narrow
    return has_year and has_month and "d" in widths and widths.keys() <= set("GyMLdEec")


def _order(form: str) -> str:
    """The day, the month and the year in the form's order: ``"dMy"`` for ``"E, dd/MM/y"``."""
    order = ""
    for letter, width in _fields(form).items():
        if letter in "ML":
            order += "M" if width <= 2 else NAME
        elif letter in "dy":
            order += letter
    return order


def _swapped(order: str) -> str:
    return order.translate(str.maketrans("dM", "Md"))


def _shuffled(seed: int) -> list[date]:
    """Every date from `FIRST` to `LAST`; sorted by hash, for an order that depends on the seed and nothing else."""
    dates = [FIRST + timedelta(days) for days in range((LAST - FIRST).days + 1)]
    return sorted(dates, key=lambda day: blake2b(f"{seed} {day}".encode(), digest_size=8).digest())
