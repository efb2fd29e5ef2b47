"""What a walk is and where its frames stand: pure functions, no input or output."""
