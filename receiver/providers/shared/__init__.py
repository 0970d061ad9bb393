"""What several providers are made with: the contract, and how bodies are read, normalised, redacted and asked for."""
