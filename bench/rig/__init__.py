"""What the benches of the api share. None of it is measured."""
