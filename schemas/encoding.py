"""JSON without blanks. The encoders are made once: ``json.dumps`` would make one at each call."""

import json

compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Takes text that UTF-8 cannot hold as well, such as half of a surrogate pair.
compact_ascii = json.JSONEncoder(separators=(",", ":")).encode
