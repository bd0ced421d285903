# SPDX-License-Identifier: GPL-2.0-only
"""Each part of each rule in models/ is needed: a model without it, or with it wrong, fails a row.

Changes that no row can notice are listed with the reason (rules.py).
"""

from __future__ import annotations

import pytest

from tests.models.rules import MODELS, Model, tried, wrong


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_no_change_to_the_model_goes_unnoticed(model: Model) -> None:
    """Every single change fails a row, but for those listed as equivalent."""
    assert wrong(model) == []
    unnoticed = {change for change, noticed in tried(model) if not noticed}
    assert unnoticed == set(model.equivalent)
