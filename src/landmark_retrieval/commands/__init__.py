"""Commands that this project adds to `kedro`, one group a module."""
