"""What the commands measure and describe, apart from how they print it."""
