"""Names of `openoutcry.ports` that were published before: they still work, and say what to write instead."""

import pytest

from openoutcry import ports


@pytest.mark.parametrize(("former", "now"), [("Step", ports.DiskTask), ("Envelope", ports.Header)])
def test_a_former_name_still_works_and_tells_the_new_one(former: str, now: type) -> None:
    with pytest.warns(DeprecationWarning, match=f"{former} is called {now.__name__} now"):
        assert getattr(ports, former) is now


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = ports.Nonsense  # type: ignore[attr-defined]
