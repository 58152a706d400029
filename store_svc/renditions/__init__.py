"""What is made of media when somebody asks for it: requests, inputs, and what is kept of the results."""
