"""What is timed, as scripts that print what they measured; never part of the tests."""
