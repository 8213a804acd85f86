"""Code that the predictions of all tasks share."""
