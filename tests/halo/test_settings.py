"""Settings: from variables, a file and arguments; everything wrong is told at once."""

import hashlib
from pathlib import Path

import pytest

from halo.settings import SettingsInvalid, is_loopback, read_settings, tenants_by_hash

KEY = "ada:" + hashlib.sha256(b"secret").hexdigest()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("HALO_")]:
        monkeypatch.delenv(name)


def test_without_anything_it_listens_on_this_machine_with_a_file_beside_it():
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.database_url == "sqlite:///halo.db"
    assert settings.limits.body_bytes == 10 * 1024 * 1024
    assert tenants_by_hash(settings) == {}


def test_arguments_win_over_variables_and_these_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "halo.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\nredis_url = "redis://r"\n[limits]\nrows = 7\njobs = 3\n')
    monkeypatch.setenv("HALO_PORT", "2")
    monkeypatch.setenv("HALO_HOST", "127.0.0.3")
    monkeypatch.setenv("HALO_LIMITS__JOBS", "4")
    settings = read_settings(file, port=3)
    assert (settings.port, settings.host, settings.redis_url) == (3, "127.0.0.3", "redis://r")
    assert (settings.limits.rows, settings.limits.jobs) == (7, 4)


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HALO_WORKFLOWS", "mine:flow, other.py:flow")
    monkeypatch.setenv("HALO_API_KEYS", KEY)
    settings = read_settings(host="0.0.0.0")
    assert settings.workflows == ("mine:flow", "other.py:flow")
    assert list(tenants_by_hash(settings).values()) == ["ada"]


def test_everything_wrong_is_told_at_once_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "halo.toml"
    file.write_text('port = "many"\nwrokflows = []\n[limits]\nrow = 1\n')
    monkeypatch.setenv("HALO_DATABSE_URL", "sqlite:///x.db")
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(file)
    told = {problem.where: problem.fix for problem in refused.value.problems}
    assert told.keys() == {"HALO_DATABSE_URL", "port", "wrokflows", "limits.row"}
    assert told["HALO_DATABSE_URL"] == "did you mean HALO_DATABASE_URL?"
    assert told["wrokflows"] == "did you mean workflows?"
    assert "rows" in told["limits.row"]


def test_what_is_well_formed_and_cannot_work_is_told_at_once():
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(database_url="mysql://x", redis_url="localhost", fleet=Path("nowhere.toml"), host="0.0.0.0")
    assert [problem.where for problem in refused.value.problems] == ["database_url", "redis_url", "fleet", "host"]


def test_without_keys_only_this_machine_is_listened_to():
    with pytest.raises(SettingsInvalid, match="api_keys"):
        read_settings(host="0.0.0.0")
    assert read_settings(host="0.0.0.0", api_keys=[KEY]).host == "0.0.0.0"
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("example.org")


def test_keys_come_from_a_file_too(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"# who\n{KEY}\n\n")
    assert list(tenants_by_hash(read_settings(api_keys_file=file)).values()) == ["ada"]
    file.write_text("ada:secret\n")
    with pytest.raises(SettingsInvalid, match="sha256"):
        read_settings(api_keys_file=file)


def test_a_rule_is_one_of_those_there_are():
    assert read_settings(rule="least loaded").rule == "least loaded"
    with pytest.raises(SettingsInvalid, match="did you mean 'least loaded'"):
        read_settings(rule="least loade")


@pytest.mark.parametrize("written", ["hexgen as written", "hexgen-as-written"])
def test_a_rule_is_written_with_spaces_or_as_the_option_is(written: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HALO_RULE", written)
    assert read_settings().rule == read_settings(rule=written).rule == "hexgen as written"


def test_operators_are_tenants_with_keys():
    assert read_settings(api_keys=[KEY], operators=["ada"]).operators == ("ada",)
    with pytest.raises(SettingsInvalid, match="'bob' is no tenant with a key"):
        read_settings(api_keys=[KEY], operators=["ada", "bob"])


@pytest.mark.parametrize("text", ["port = ", "\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "halo.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsInvalid):
        read_settings(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SettingsInvalid, match="is no file"):
        read_settings(tmp_path / "none.toml")


def test_variables_of_other_parts_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HALO_URL", "http://localhost:8080")
    monkeypatch.setenv("HALO_TEST_REDIS_URL", "redis://")
    read_settings()
