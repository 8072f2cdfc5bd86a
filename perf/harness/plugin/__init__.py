"""pytest's hooks and fixtures, and one class for each way to run: measure, gate, qualify."""
