"""Write numbers in pictures as people write them."""

from __future__ import annotations

import math


def format_number(value: float, digits: int = 2) -> str:
    """Return a number rounded to significant digits, such as -180, 0.031 or 1.2e-6.

    Numbers below 0.0001 or of more than six digits have an exponent.
    """
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0 or not math.isfinite(rounded):
        return f"{rounded:g}".removeprefix("-" if rounded == 0 else "")
    power = math.floor(math.log10(abs(rounded)))
    if -4 <= power < 6:
        text = f"{rounded:.{max(0, digits - 1 - power)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{rounded:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def format_probability(share: float) -> str:
    """Return a probability in percent: <0.1 % and >99.9 % where it would round to 0 or to 100 %."""
    if share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if share >= 0.9995 else f"{100 * share:.1f} %"
