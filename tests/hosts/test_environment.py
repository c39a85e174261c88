"""What of an environment is a credential: by its name, and by its value."""

import pytest

from optio_agents.hosts.environment import inheritable, looks_like_credential

CREDENTIALS = """
    OPENAI_KEY STRIPE_KEY SSH_KEY DB_PASS PGPASSWORD MYSQL_PWD GITHUB_PAT NPM_AUTH JWT
    DOCKER_AUTH_CONFIG GITHUB_TOKEN OPENAI_API_KEY OPENAI_API_KEY_2 APIKEY AWS_ACCESS_KEY_ID
    SSHPASS AWS_SECRET_ACCESS_KEY SECRET_KEY_BASE TF_VAR_db_password SMTP_PASS GPG_PASSPHRASE
    SENTRY_DSN npm_config__authtoken AZURE_STORAGE_CONNECTION_STRING SLACK_WEBHOOK_URL
    SESSION_COOKIE JWT_TOKEN ANTHROPIC_CUSTOM_HEADERS OTEL_EXPORTER_OTLP_HEADERS
    HTTP_AUTHORIZATION SSH_AUTH_SOCK KEY DB_PW GOOGLE_APPLICATION_CREDENTIALS CLIENT_SECRET_FILE
"""
HARMLESS = """
    PATH HOME LANG PWD OLDPWD KEYBOARD PASSAGE BYPASS COMPASS SSH_ASKPASS GIT_ASKPASS
    TOKENIZERS_PARALLELISM CLAUDE_CODE_MAX_OUTPUT_TOKENS MAX_THINKING_TOKENS GIT_AUTHOR_NAME
    MONKEY XAUTHORITY SSH_PUBLIC_KEY PATTERN HEADERS_DIR LESSKEY AUTHOR KEYMAP
"""


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_the_name_of_a_credential_is_known(name: str) -> None:
    assert looks_like_credential(name)
    assert looks_like_credential(name.lower())


@pytest.mark.parametrize("name", HARMLESS.split())
def test_other_names_are_not_taken_for_one(name: str) -> None:
    assert not looks_like_credential(name)


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://app:hunter22@db/orders",
        "amqp://:hunter22@queue",
        "host=db user=app password=hunter22",
        "jdbc:sqlserver://db;user=a;password=hunter22;x=y",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nxyz",
        "ghp_0123456789abcdefghij",
        "sk-ant-api03-0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig",
    ],
)
def test_a_value_may_be_a_credential_whatever_it_is_called(value: str) -> None:
    assert looks_like_credential("DATABASE_URL", value)
    assert inheritable({"DATABASE_URL": value, "LANG": "C"}) == {"LANG": "C"}


@pytest.mark.parametrize(
    "value",
    ["postgresql://app@db/orders", "http://proxy:3128", "sk-no", "a:b@c", "http://[::1]:80/a@b"],
)
def test_an_address_without_a_password_is_passed_on(value: str) -> None:
    assert not looks_like_credential("DATABASE_URL", value)
