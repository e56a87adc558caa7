"""The tests of aed. They mirror the tree; `tests/support` holds what they share."""
