"""TLS: the certificates of this process, which are renewed while it runs."""
