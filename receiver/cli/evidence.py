"""evidence, keys show."""

from pathlib import Path

import click

from receiver import evidence as making
from receiver.cli import Failure, faxes, opening, printing
from receiver.showing import evidence as showing
from receiver.store import browsing


@click.command()
@click.argument("fax", metavar="FAX")
@opening.config_option
@click.option("--reveal", is_flag=True, help="With numbers, names and references.")
def evidence(fax: str, config: Path | None, reveal: bool) -> None:
    """
    What is kept of one fax, signed: receipts, the answers given, events, and the SHA-256 of each stored body.

    FAX is whatever `faxhook fax` finds it by. The document says how the transport ended, not that anybody has read the
    fax. deploy/verify-evidence.py verifies it with the key of `faxhook keys show`, anywhere. Each one is audited.
    """
    settings = opening.load(config)
    making.Signer(settings)  # before anything is audited: it must be there
    with opening.open_store(config) as store:
        fax_id = faxes.the_one(store, settings, fax)
        with store.writing() as connection:
            browsing.audit(connection, store.tables, "evidence.reveal" if reveal else "evidence", fax_id)
        document = showing.signed(store, settings, fax_id, reveal=reveal)
    if document is None:
        raise Failure(f"there is no fax {fax_id} any more")
    click.echo(document, nl=False)


@click.group()
def keys() -> None:
    """The key that evidence is signed with. It is made once and stays in state_dir; nothing shows its private half."""


@keys.command()
@opening.config_option
@click.option("--json", "is_json", is_flag=True, help="JSON.")
def show(config: Path | None, is_json: bool) -> None:
    """The public half, as a PEM file: give it to those who are to verify evidence, before they need it."""
    signer = making.Signer(opening.load(config))
    if is_json:
        printing.as_json({"algorithm": "Ed25519", "public_key": signer.public_hex, "pem": signer.public_pem})
    else:
        click.echo(signer.public_pem, nl=False)
