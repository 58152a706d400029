"""The store's gRPC servicers: who may ask, then messages to calls and back."""
