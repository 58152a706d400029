"""Which frames of a clip the detector looks at."""
