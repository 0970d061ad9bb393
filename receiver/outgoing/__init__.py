"""Events on their way out: the relay, its connections to brokers, and the consumers of ``faxhook consume``."""
