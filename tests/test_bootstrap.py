"""What a process does that begins while the store is away."""

from pathlib import Path

from house import FORM

from receiver import bootstrap, settings
from receiver.app import create_app

NOBODY = "postgresql+psycopg://postgres@127.0.0.1:1/none"
CONFIGURATION = f"""
[store]
url = "{NOBODY}"
[endpoints.faxage]
provider = "faxage"
account = "acme"
timezone = "America/Denver"
auth = {{ mode = "none" }}
insecure = true
"""


def test_a_worker_that_begins_while_the_store_is_away_answers_503(tmp_path: Path) -> None:
    config = tmp_path / "faxhook.toml"
    config.write_text(CONFIGURATION)
    runtime = bootstrap.build(settings.load(config, {}))
    client = create_app(runtime).test_client()
    answer = client.post("/callbacks/faxage", data=b"jobid=1&shortstatus=success", content_type=FORM)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
