"""The form of a PIN, and the synthetic range."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.core.errors import InvalidField
from services.mesh.core.person.pin import SandboxPin, require_pin


@pytest.mark.parametrize("pin", ["079303012345", "001099000001", "840301234567", "000000000000", "999999999999"])
def test_twelve_digits_are_a_pin_whatever_place_they_name(pin: str) -> None:
    assert require_pin(pin, "pin", sandbox=False) == pin


@pytest.mark.parametrize(
    "pin",
    [
        "",
        "07930301234",
        "0793030123456",
        "07930301234a",
        "O79303012345",
        "079303012 45",
        " 079303012345",
        "079303012345\n",
        "079-303-012345"[:12],
        "+79303012345",
        "０７９３０３０１２３４５",
        "٠٧٩٣٠٣٠١٢٣٤٥",
        "07930301234５",
        "07930301234²",
        "079303012345\u200b",
    ],
)
@pytest.mark.parametrize("sandbox", [True, False])
def test_anything_else_is_refused_by_its_field(pin: str, sandbox: bool) -> None:
    with pytest.raises(InvalidField) as refused:
        require_pin(pin, "identity.pin", sandbox=sandbox)
    assert refused.value.violations[0].field == "identity.pin"
    assert not pin or pin not in str(refused.value)


@pytest.mark.parametrize("pin", ["901303012345", "979303012345", "996303012345"])
def test_a_synthetic_pin_exists_in_a_sandbox_alone(pin: str) -> None:
    assert require_pin(pin, "pin", sandbox=True) == pin
    with pytest.raises(SandboxPin) as refused:
        require_pin(pin, "pin", sandbox=False)
    assert pin not in str(refused.value)


@pytest.mark.parametrize("pin", ["900303012345", "997303012345", "999303012345", "099901234567", "079901301234"])
def test_the_synthetic_range_is_900_and_an_old_province_code(pin: str) -> None:
    assert require_pin(pin, "pin", sandbox=False) == pin


@settings(deadline=None)
@given(st.text(st.characters(categories=["Nd", "No", "Nl"]), min_size=11, max_size=13))
def test_only_ascii_digits_count(pin: str) -> None:
    is_pin = len(pin) == 12 and all(sign in "0123456789" for sign in pin)
    try:
        assert require_pin(pin, "pin", sandbox=True) == pin
        assert is_pin
    except InvalidField:
        assert not is_pin
