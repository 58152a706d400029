"""The store's gRPC servicers: messages to calls and back. Who may ask, the contracts declare."""
