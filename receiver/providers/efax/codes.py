"""
What eFax's codes and texts mean.

Sources: public code that receives dispositions, the wording is ours; replies to OutboundStatus in the tests of a public
client; the categories of the eFax Reporting API.
"""

from receiver.providers.shared.contract import CodeTable
from receiver.providers.shared.normalising import DELIVERED, UNLISTED, failed, table, whole_number
from schemas.event import Confidence, FailureReason, Retryable

# 60xx is 6000 + the Q.850 cause, 41xx is 4100 + the hang-up code of the fax board.
CODES = table(
    "FaxStatus",
    [
        ("0", DELIVERED, "sent"),
        # the fax server, before and around dialing
        (
            "60 61 62 64 66 67 70 71 73 74 80 81 82 84",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "server-side processing failure before or around dialing",
        ),
        (
            "63 77 78",
            failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH),
            "number missing, too long or badly formed",
        ),
        ("65", failed(FailureReason.INVALID_REQUEST, Retryable.NO, Confidence.MEDIUM), "cover sheet not found"),
        ("68", failed(FailureReason.DOCUMENT_MISSING, Retryable.NO, Confidence.MEDIUM), "no files to send"),
        (
            "69 91 4012 4015 4017",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "receive-side code, not expected for outbound",
        ),
        (
            "72 83 122",
            failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.MEDIUM),
            "merge or conversion failed",
        ),
        (  # 75 has been seen for invalid numbers too
            "75 76",
            failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM),
            "number on a do-not-send list",
        ),
        ("79", failed(FailureReason.EXPIRED, Retryable.UNKNOWN, Confidence.LOW), "automatic launch timed out"),
        (
            "100 123 130 131 132",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "server fault",
        ),
        (
            "101 102 103 104 105 110 119 120 121 124",
            failed(FailureReason.INVALID_REQUEST, Retryable.NO, Confidence.MEDIUM),
            "bad job command or parameter",
        ),
        ("108", failed(FailureReason.DOCUMENT_MISSING, Retryable.NO, Confidence.MEDIUM), "document file not found"),
        # the e-mail channel of the same server
        (
            "90 141 142 148 149 150 152 153 154 155 500 501 502 503 504 554",
            failed(FailureReason.PROVIDER_ERROR, Retryable.NO, Confidence.LOW),
            "e-mail channel, permanent; not expected for fax",
        ),
        (
            "143 144 145 146 147 421 450 451 452 550 551 552 553",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "e-mail channel; not expected for fax",
        ),
        # the line and the call
        (
            "258 259 260",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "no dial tone, no loop current, or local line in use",
        ),
        ("261 265", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM), "trunk or time slot busy"),
        ("266 267", failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM), "glare or no wink"),
        ("268", failed(FailureReason.BAD_NUMBER, Retryable.UNKNOWN, Confidence.MEDIUM), "invalid ISDN dial string"),
        ("269", failed(FailureReason.NETWORK_ERROR, Retryable.UNKNOWN, Confidence.LOW), "redial failed (Japan)"),
        ("301 302", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "busy"),
        ("303", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "fast busy, trunks busy"),
        (
            "304 305",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.LOW),
            "odd call progress on the sending side",
        ),
        ("308 309 325", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "rings, nobody answers"),
        (
            "316 317 324",
            failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.HIGH),
            "a person answered, or silence",
        ),
        (
            "318",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "dial tone stays after dialing",
        ),
        ("326", failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM), "group 2 machine"),
        (
            "327 329",
            failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM),
            "special information tone: invalid number or service",
        ),
        ("328", failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM), "possibly dead line"),
        (
            "330 331",
            failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM),
            "special information tone: reorder or no circuit",
        ),
        (
            "332 333 334 339 340",
            failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.LOW),
            "odd call-progress result",
        ),
        ("349", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM), "ISDN call collision"),
        # the fax session (T.30)
        (
            "4007",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "line not connected, unknown dial error",
        ),
        ("4009", failed(FailureReason.UNKNOWN, Retryable.YES, Confidence.MEDIUM), "unknown error"),
        ("4010 4016", failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM), "server fault"),
        ("4011", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "not all pages sent"),
        (
            "4013 4014",
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "no remote information, or training failed",
        ),
        ("4018", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.LOW), "timeout waiting for the call"),
        (
            "4020 4021",
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "pages rejected or not confirmed",
        ),
        ("4101", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.LOW), "ring without handshake"),
        ("4102", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.LOW), "call aborted"),
        (
            "4103 4104 4129 4130 4160",
            failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM),
            "hang-up, ISDN disconnect or DCN received",
        ),
        ("4111", failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.MEDIUM), "T.30 T1 timeout: no fax answers"),
        (
            """
            4120 4122 4123 4124 4125 4126 4127 4128 4140 4141 4142 4143 4144 4151 4152 4153 4154 4155 4156 4157
            4161 4162 4163 4164 4165 4166 4167 4168 4342 4343 4605
            """,
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "T.30 protocol failure",
        ),
        (
            "4121 4133 4136",
            failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM),
            "remote cannot receive, or formats do not match",
        ),
        (
            "4134 4135",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "bad transmit set-up on the sending side",
        ),
        # the fax board
        (
            "4340 4341 4602 5004 5008",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "board or channel state",
        ),
        (
            "4600 4601 4603 4604 5000 5001 5003 5005 5006 5007",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "board, driver or API fault",
        ),
        ("5002", failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.MEDIUM), "bad file format"),
        # the telephone network (Q.850)
        (
            "6000 6003 6030 6031",
            failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.MEDIUM),
            "no or unspecified network cause",
        ),
        ("6001", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "unassigned number"),
        (
            "6002 6006 6027 6029 6038 6041 6043 6045 6050 6058 6063 6065 6066 6127",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "network or route fault",
        ),
        ("6016", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM), "normal clearing (hung up)"),
        ("6017", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "busy"),
        (
            "6018 6401 6402 6403",
            failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH),
            "no user responding, or timed out before connect",
        ),
        ("6021", failed(FailureReason.REJECTED, Retryable.UNKNOWN, Confidence.MEDIUM), "call rejected"),
        ("6022", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "number changed"),
        ("6028", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "invalid number format"),
        (
            "6034 6042 6044",
            failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM),
            "no circuit, congestion, or channel not available",
        ),
        (
            "6052 6054",
            failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM),
            "outgoing or incoming call barred",
        ),
        ("6069", failed(FailureReason.NETWORK_ERROR, Retryable.NO, Confidence.MEDIUM), "facility not implemented"),
        (
            "6081 6082 6095 6096 6097 6098 6099 6100 6101 6102 6103 6111 6404 6405 6407",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "signalling protocol fault",
        ),
        ("6088", failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM), "incompatible destination"),
        ("6406", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM), "disconnected after connect"),
        ("6408", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.MEDIUM), "internal"),
    ],
    spelling=whole_number,
)

# What OutboundStatus says of a fax that did not arrive. Of its own texts, one has been seen; the others are the names
# that the Reporting API counts under.
_OUTCOMES = {
    "Success": DELIVERED,
    "Normal busy: remote end busy (off hook)": failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH),
    "Busy": failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH),
    "No answer": failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH),
    "No dial tone": failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
    # Each covers several reasons of the table above: named one, the report would contradict a callback that is exact.
    "Call placement error": UNLISTED,
    "Fax transmission failed": UNLISTED,
    "Unspecified failure": failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.HIGH),
}
OUTCOMES = CodeTable(
    field="Outcome",
    verdicts={text.lower(): verdict for text, verdict in _OUTCOMES.items()},
    texts={text.lower(): text for text in _OUTCOMES},
    unknown=UNLISTED,
    spelling=str.lower,
)
