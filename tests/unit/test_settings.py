"""The environment as settings: what counts, what wins, and what is said about wrong values."""

import pytest

from holdfast.errors import ConfigurationError
from holdfast.settings import SUPERSEDED, StoreSettings


def test_an_empty_environment_says_nothing() -> None:
    assert StoreSettings.from_environment({}) == StoreSettings()
    assert StoreSettings.from_environment({"REDIS_URL": "", "SESSION_TTL": " "}) == StoreSettings()


def test_the_guides_variables_have_the_guides_meaning() -> None:
    settings = StoreSettings.from_environment(
        {
            "REDIS_URL": "redis://localhost:6379/0",
            "SESSION_TTL": "7200",
            "MAX_EVENTS_PER_SESSION": "500",
            "SESSION_COMPRESSION": "false",
            "SESSION_KEY_PREFIX": "mcp:session:",
            "REDIS_SOCKET_TIMEOUT": "5",
            "REDIS_CONNECT_TIMEOUT": "2.5",
            "REDIS_HEALTH_CHECK_INTERVAL": "30",
        }
    )
    assert settings == StoreSettings(
        url="redis://localhost:6379/0",
        url_variable="REDIS_URL",
        ttl_seconds=7200,
        max_events=500,
        compression=False,
        key_prefix="mcp:session:",
        answer_seconds=5,
        connect_seconds=2.5,
        probe_seconds=30,
    )


@pytest.mark.parametrize(
    ("environment", "url", "variable"),
    [
        ({"REDIS_HOST": "db"}, "redis://db:6379/0", "REDIS_HOST"),
        (
            {"REDIS_HOST": "db", "REDIS_PORT": "7000", "REDIS_DB": "3", "REDIS_PASSWORD": "a/b@c%:"},
            "redis://:a%2Fb%40c%25%3A@db:7000/3",
            "REDIS_HOST",
        ),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0", "REDIS_HOST"),
        ({"REDIS_HOST": "db", "REDIS_URL": "redis://whole"}, "redis://whole", "REDIS_URL"),
        ({"REDIS_URL": "redis://whole", "HOLDFAST_STORE": "sqlite://"}, "sqlite://", "HOLDFAST_STORE"),
        ({"REDIS_PORT": "7000"}, None, None),
        (
            {"REDIS_URL": "redis://whole", "SESSION_PERSISTENCE_ENABLED": "false"},
            "memory://",
            "SESSION_PERSISTENCE_ENABLED",
        ),
        (
            {"REDIS_URL": "redis://whole", "SESSION_PERSISTENCE_ENABLED": "true"},
            "redis://whole",
            "REDIS_URL",
        ),
    ],
)
def test_a_whole_url_wins_over_its_parts(
    environment: dict[str, str], url: str | None, variable: str | None
) -> None:
    settings = StoreSettings.from_environment(environment)
    assert (settings.url, settings.url_variable) == (url, variable)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SESSION_TTL", "an hour", "seconds above 0"),
        ("SESSION_TTL", "1e12", "up to 315,360,000"),
        ("REDIS_SOCKET_TIMEOUT", "5s", "seconds above 0 and up to 3,600"),
        ("REDIS_HEALTH_CHECK_INTERVAL", "-30", "seconds above 0 and up to 3,600"),
        ("SESSION_DEBUG_LOGGING", "verbose", "true, 1, yes, on"),
        ("HOLDFAST_ENCRYPTION_KEYS_FILE", "/nowhere/keys", "a file to read: No such file"),
        ("SESSION_TTL", "0", "seconds above 0"),
        ("SESSION_TTL", "inf", "seconds above 0"),
        ("MAX_EVENTS_PER_SESSION", "-1", "from 8 to 1,000,000"),
        ("MAX_EVENTS_PER_SESSION", "1e3", "from 8 to 1,000,000"),
        ("SESSION_COMPRESSION", "gzip", "true, 1, yes, on, false, 0, no, off"),
        ("SESSION_PERSISTENCE_ENABLED", "maybe", "true, 1, yes, on"),
        ("SESSION_KEY_PREFIX", "{a}:session:", "without braces"),
        ("SESSION_KEY_PREFIX", "mcp:", "ends with :session:"),
        ("REDIS_CONNECT_TIMEOUT", "nan", "seconds above 0"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}: got '{value}', expected .*{allowed}"):
        StoreSettings.from_environment({name: value})


@pytest.mark.parametrize(("name", "value"), [("REDIS_PORT", "70000"), ("REDIS_DB", "first")])
def test_a_wrong_part_of_the_url_is_refused_too(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: got '{value}'"):
        StoreSettings.from_environment({"REDIS_HOST": "db", name: value})


@pytest.mark.parametrize("name", SUPERSEDED)
def test_a_variable_that_cannot_be_honoured_says_why(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: is not used here: .+"):
        StoreSettings.from_environment({name: "17"})


@pytest.mark.parametrize(
    ("name", "value"), [("ENABLE_EVENT_REPLAY", "true"), ("EVENT_ID_SEQUENCE_START", "0")]
)
def test_a_variable_that_asks_for_what_happens_anyway_is_no_error(name: str, value: str) -> None:
    assert StoreSettings.from_environment({name: value}) == StoreSettings()


def test_secrets_are_not_shown() -> None:
    settings = StoreSettings.from_environment(
        {"REDIS_URL": "redis://:secret@db", "HOLDFAST_ENCRYPTION_KEYS": "k:c2VjcmV0"}
    )
    assert settings.encryption_keys == "k:c2VjcmV0"
    assert "secret" not in repr(settings)
    assert "c2VjcmV0" not in repr(settings)
