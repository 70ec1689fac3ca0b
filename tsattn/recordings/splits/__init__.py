"""Splits into training, validation and test, and the audit that finds what leaks between them."""
