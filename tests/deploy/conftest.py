"""The built environment, once for all tests that run what deploy/ describes."""

from pathlib import Path

import image
import pytest


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile puts into /opt/faxhook."""
    return image.build(tmp_path_factory.mktemp("image"))
