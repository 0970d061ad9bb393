"""An endpoint that used to be called and has stopped is noticed; one that never was, or that rests as usual, is not."""

from receiver.reconcile import watch
from receiver.store import discrepancies, now_ms

HOUR = 3600_000


def call(stock, *hours_ago):
    for number, hours in enumerate(hours_ago):
        stock.take("openfax", f"OutTransID={hours}{number}&AccountID=1&LastStatus=0".encode(), age_ms=hours * HOUR)


def silent(stock):
    with stock.runtime.store.reading() as connection:
        rows = discrepancies.listing(connection, stock.runtime.store.tables, limit=None, now_ms=now_ms())
    return [(row["kind"], row["endpoint"]) for row in rows]


def test_a_silence_longer_than_ever_is_found_once_and_over_with_the_next_callback(anywhere, capfd):
    call(anywhere, *range(200, 7, -1))
    assert [one.endpoint for one in watch(anywhere.runtime)] == ["openfax"]
    assert watch(anywhere.runtime) == []  # nothing new
    assert silent(anywhere) == [("silent", "openfax")]
    assert '"event":"discrepancy_found"' in capfd.readouterr().err
    call(anywhere, 0)
    assert watch(anywhere.runtime) == []
    assert silent(anywhere) == []


def test_a_usual_pause_is_no_silence(anywhere):
    nights = [day * 24 + hour for day in range(8, -1, -1) for hour in range(20, 9, -1)]  # 14 hours of rest each
    call(anywhere, *nights)
    watch(anywhere.runtime)
    assert silent(anywhere) == []


def test_an_endpoint_with_few_callbacks_is_not_watched(anywhere):
    call(anywhere, 240, 190, 189, 188)
    watch(anywhere.runtime)
    assert silent(anywhere) == []


def test_what_comes_by_reports_is_no_callback(anywhere):
    """The hours of reports are noted apart."""
    call(anywhere, *range(200, 7, -1))
    table = anywhere.runtime.store.tables.endpoint_hours
    with anywhere.runtime.store.writing() as connection:
        connection.execute(table.update().values(by_report=True))
    watch(anywhere.runtime)
    assert silent(anywhere) == []


def test_a_first_evening_and_a_first_weekend_are_no_silence(anywhere):
    call(anywhere, *range(60, 30, -1))
    watch(anywhere.runtime)
    assert silent(anywhere) == []


def test_a_silence_stays_one_when_the_time_before_it_is_out_of_sight(anywhere):
    call(anywhere, *range(200, 7, -1))
    watch(anywhere.runtime)
    table = anywhere.runtime.store.tables.receipts
    with anywhere.runtime.store.writing() as connection:
        connection.execute(table.delete().where(table.c.received_at_ms > now_ms() - 180 * HOUR))
    watch(anywhere.runtime)
    assert silent(anywhere) == [("silent", "openfax")]
