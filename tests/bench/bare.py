"""The measure of all rows: a Flask view that answers 204 and does nothing else."""

from flask import Flask

app = Flask("bare")


@app.post("/callbacks/<path:path>")
def callbacks(path: str) -> tuple[str, int]:
    return "", 204
