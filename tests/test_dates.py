import subprocess
import sys
import unicodedata
from collections import Counter
from datetime import date, timedelta

import pytest

from regard.data.dates import DEFAULT_LOCALES, DIGITS, FIRST, LAST, Dates, forms, write
from regard.errors import SettingsError
from regard.settings import parse

APRIL = date(2025, 4, 3)
# Every month with every day that could be a month, in years that share their last two digits.
CONFUSABLE = [date(year, month, day) for year in (1925, 2025) for month in range(1, 13) for day in range(1, 13)]


@pytest.fixture(scope="module")
def corpus():
    return Dates(train=3_000, dev=130, test=500).load()


def test_many_locales_and_scripts(corpus):
    texts = "".join(row["source"] for row in corpus.test)
    scripts = {unicodedata.name(letter).split()[0] for letter in texts if letter.isalpha()}
    assert len({row["tag"] for row in corpus.test}) == len(DEFAULT_LOCALES) == len(set(DEFAULT_LOCALES)) >= 48
    assert {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI"} <= scripts
    assert {"GEORGIAN", "ARMENIAN", "CJK", "HANGUL", "ETHIOPIC", "KHMER", "MYANMAR"} <= scripts


def test_known_writings():
    assert write(APRIL, "de_DE", "EEEE, d. MMMM y") == "Donnerstag, 3. April 2025"
    assert write(APRIL, "ja_JP", "y年M月d日EEEE") == "2025年4月3日木曜日"
    assert write(APRIL, "ru_RU", "d MMMM y\u202f'г'.") == "3 апреля 2025\u202fг."
    assert "d MMMM y" in forms("fr_FR")


def test_the_same_text_is_two_dates_in_two_locales():
    assert write(APRIL, "en_GB", "d/M/y") == write(date(2025, 3, 4), "en_US", "M/d/y") == "3/4/2025"
    assert "M/d/y" in forms("en_US")
    assert "M/d/y" not in forms("en_GB")


@pytest.mark.parametrize("locale", DEFAULT_LOCALES)
def test_a_text_means_one_date_in_its_locale(locale):
    meaning: dict[str, date] = {}
    for form in forms(locale):
        for day in CONFUSABLE:
            assert meaning.setdefault(write(day, locale, form), day) == day, form


def test_two_digit_years_are_left_out():
    assert not [form for locale in DEFAULT_LOCALES for form in forms(locale) if "y" not in form.replace("yy", "")]
    assert "M/d/yy" not in forms("en_US")


def test_numbers_in_a_doubtful_order_are_left_out():
    assert "d.M.y" in forms("fi_FI")  # the standard medium format
    assert "M.d.y G" not in forms("fi_FI")  # CLDR offers both
    assert not {"d/M/y", "M/d/y G"} & set(forms("en_CA"))  # neither is a standard format
    assert "y-MM-dd" in forms("en_CA")


@pytest.mark.parametrize(
    ("locale", "text"), [("ar_EG", "٣"), ("fa_IR", "۳"), ("bn_BD", "৩"), ("mr_IN", "३"), ("ne_NP", "३"), ("my_MM", "၃")]
)
def test_native_digits(locale, text):
    for form in forms(locale):
        written = write(APRIL, locale, form)
        assert text in written
        assert not set(written) & set("0123456789")


def test_zeros_are_zeros():
    assert {unicodedata.digit(unicodedata.lookup(f"{name}DIGIT ZERO")) for name in DIGITS.values()} == {0}


def test_rows_are_a_date_twice(corpus):
    for row in [*corpus.train, *corpus.dev, *corpus.test]:
        day = date.fromisoformat(row["target"])
        assert FIRST <= day <= LAST
        assert row["source"] in {write(day, row["tag"], form) for form in forms(row["tag"])}
        assert row["source"] == row["source"].strip()


def test_no_date_is_on_two_sides(corpus):
    train, dev, test = ({row["target"] for row in rows} for rows in (corpus.train, corpus.dev, corpus.test))
    assert (len(train), len(dev), len(test)) == (3_000, 130, 500)
    assert not train & dev
    assert not train & test
    assert not dev & test


def test_training_may_be_larger_than_the_calendar():
    days = (LAST - FIRST) // timedelta(days=1) + 1
    rows = Dates(locales=("en_US", "zh_CN"), train=days, dev=1, test=1).load().train
    assert len(rows) == days
    assert len({row["target"] for row in rows}) == days - 2


def test_locales_and_forms_are_evenly_spread(corpus):
    assert set(Counter(row["tag"] for row in corpus.test).values()) <= {500 // 63, 500 // 63 + 1}
    rows = [row for row in corpus.train if row["tag"] == "zh_TW"]
    assert sum("年" not in row["source"] for row in rows) == pytest.approx(len(rows) * 3 / 8, abs=3)


def test_a_seed_gives_the_same_rows(corpus):
    again = Dates(train=3_000, dev=130, test=500).load()
    other = Dates(train=3_000, dev=130, test=500, seed=2).load()
    assert [list(side) for side in again[:3]] == [list(side) for side in corpus[:3]] and again[3:] == corpus[3:]
    assert other.fingerprint != corpus.fingerprint
    assert [row["target"] for row in other.test] != [row["target"] for row in corpus.test]
    assert corpus.test[0] == {"source": "Monday, October 18, 1920", "target": "1920-10-18", "tag": "en_US"}


def test_notes_say_what_is_real_and_what_is_not(corpus):
    real, generated = corpus.notes
    assert "63 locales, from CLDR through Babel 2." in real
    assert "1900-01-01 to 2099-12-31" in generated
    assert not corpus.dropped


@pytest.mark.parametrize(
    ("wrong", "meant"), [("en-US", "en_US"), ("jp_JP", "ja_JP"), ("em_US", "en_US"), ("../de", None), ("", None)]
)
def test_unknown_locale(wrong, meant):
    for use in (lambda: forms(wrong), lambda: Dates(locales=("en_US", wrong)), lambda: write(APRIL, wrong, "d M y")):
        with pytest.raises(SettingsError) as caught:
            use()
        assert f"no locale '{wrong}'" in caught.value.message
        assert meant is None or caught.value.hint == f"did you mean '{meant}'?"


@pytest.mark.parametrize("wrong", [{"locales": []}, {"train": 0}, {"test": 10_001}, {"dev": 0}, {"locale": ["en_US"]}])
def test_settings_out_of_range(wrong):
    with pytest.raises(SettingsError) as caught:
        parse(Dates, wrong, "here")
    assert f"'{next(iter(wrong))}'" in caught.value.message


def test_no_torch():
    code = "import sys, regard.data.dates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
