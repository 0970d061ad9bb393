"""The measure of all rows: a Flask view that reads its body, answers 204 and does nothing else."""

from flask import Flask, request

app = Flask("bare")


@app.post("/callbacks/<path:path>")
def callbacks(path: str) -> tuple[str, int]:
    request.get_data()
    return "", 204
