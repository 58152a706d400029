"""What the store is told about the home as a whole: its mode, people, presence, expected visits and notes."""
