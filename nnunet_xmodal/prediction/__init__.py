"""What the predictions of all tasks share."""
