"""
librdkafka's mock cluster as a server of its own: ``python mock_kafka.py TOPIC``.

It is inside the library that the wheel of confluent-kafka brings, and is spoken to by ctypes. The first line of output
is its address; each line of input is an order, answered with a line.
"""

import ctypes
import sys
from pathlib import Path

import confluent_kafka

_UNKNOWN_TOPIC_OR_PART = 3


def main(topic: str) -> None:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*"))))
    for name in ("rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    handle = ctypes.c_void_p(library.rd_kafka_new(0, None, ctypes.create_string_buffer(512), ctypes.c_size_t(512)))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(handle, 1))
    name = topic.encode()
    library.rd_kafka_mock_topic_create(cluster, name, 2, 1)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["down"]:
                library.rd_kafka_mock_broker_set_down(cluster, 1)
            case ["up"]:
                library.rd_kafka_mock_broker_set_up(cluster, 1)
            case ["rtt", milliseconds]:
                library.rd_kafka_mock_broker_set_rtt(cluster, 1, int(milliseconds))
            case ["unknown", other]:
                library.rd_kafka_mock_topic_set_error(cluster, other.encode(), _UNKNOWN_TOPIC_OR_PART)
            case ["errors", api, *codes]:
                errors = (ctypes.c_int * len(codes))(*map(int, codes))
                library.rd_kafka_mock_push_request_errors_array(
                    cluster, ctypes.c_int16(int(api)), ctypes.c_size_t(len(codes)), errors
                )
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
