"""Other versions and other machines: flags of XLA that not every version knows."""

import re
from pathlib import Path

from conftest import xla_knows

ROOT = Path(__file__).parents[1]


def test_a_flag_is_set_only_where_this_version_of_xla_knows_it():
    assert xla_knows("--xla_force_host_platform_device_count=1")
    assert not xla_knows("--xla_no_such_flag=true")


def test_flags_of_xla_are_set_by_the_tests_alone_which_ask_first():
    folders = ("fluidgrad", "tests", "docs", "experiments", ".ci", ".github")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix in ("", ".py", ".md", ".yml")]
    naming = [p.name for p in files if re.search(r"--xla_\w+=", p.read_text(encoding="utf-8"))]
    assert sorted(naming) == ["conftest.py", "test_platforms.py"]
