"""
JSON without blanks. The encoders are made once: ``json.dumps`` would make one at each call.

They do not look for values that hold themselves, which takes a quarter of the time: nothing written here is one.
"""

import json

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
# Takes text that UTF-8 cannot hold as well, such as half of a surrogate pair.
compact_ascii = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
