"""The rules of the store: pure, without SQL, gRPC, the bus or a clock."""
