"""What the operating system gives us: processes, signals, sockets, streams and deadlines."""
