"""pytest's hooks and fixtures, and one object for each way to run: measure, gate, qualify."""
