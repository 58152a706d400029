"""The gRPC servicers of the store. The contracts declare the permission that each method needs."""
