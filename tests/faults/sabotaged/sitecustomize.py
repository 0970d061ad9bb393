"""Python runs this at its start wherever this folder is in PYTHONPATH: there, faxhook is broken in one way."""

import os

import sabotage

sabotage.apply(os.environ["SABOTAGE"])
