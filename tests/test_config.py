from __future__ import annotations

from pathlib import Path

import pytest

from gos_fx import config
from gos_fx.errors import BadOption

ROOT = Path(__file__).parent.parent


def test_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOS_FX_CACHE", str(tmp_path))
    assert config.cache_dir() == tmp_path
    monkeypatch.delenv("GOS_FX_CACHE")
    assert config.cache_dir().name == "gos_fx"


def test_debug_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOS_FX_DEBUG", raising=False)
    assert config.debug_level() == 0
    monkeypatch.setenv("GOS_FX_DEBUG", "3")
    assert config.debug_level() == 3
    for bad in ("5", "-1", "much"):
        monkeypatch.setenv("GOS_FX_DEBUG", bad)
        with pytest.raises(BadOption, match="GOS_FX_DEBUG"):
            config.debug_level()


def test_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOS_FX_VERIFY", raising=False)
    assert not config.verify_passes()
    monkeypatch.setenv("GOS_FX_VERIFY", "1")
    assert config.verify_passes()
    monkeypatch.setenv("GOS_FX_VERIFY", "yes")
    with pytest.raises(BadOption, match="neither 0 nor 1"):
        config.verify_passes()


def test_only_config_reads_the_environment_of_gos_fx() -> None:
    for folder in ("gos_fx", "passes", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != ROOT / "gos_fx" / "config.py":
                text = path.read_text()
                assert "environ" not in text or "GOS_FX_" not in text, path
