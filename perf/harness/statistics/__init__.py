"""Statistics: functions that take numbers and return numbers."""
