"""What turns recipes into pictures. An engine is independent of HTTP, of the device queue and of files."""
