"""Every broken device file is refused with file, line and field, and is told what would be right: one folder a case."""

from pathlib import Path

import pytest

from plugins.api.registry import Registry
from services.gateway.catalog import check_folder
from services.gateway.settings import SHIPPED_DRIVERS

TESTCASES = Path(__file__).parent / "testcases"
DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")


@pytest.mark.parametrize("case", sorted(TESTCASES.iterdir()), ids=lambda case: case.name)
def test_a_broken_device_file_is_refused_as_expected(case):
    faults = check_folder(case, DRIVERS)

    told = "".join(f"{fault}\n" for fault in faults).replace(f"{case}/", "")
    assert told == (case / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", sorted(TESTCASES.iterdir()), ids=lambda case: case.name)
def test_every_fault_says_what_would_be_right(case):
    assert [str(fault) for fault in check_folder(case, DRIVERS) if not fault.mend] == []
