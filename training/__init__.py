"""Training: the loop, the optimiser, the schedule, estimates."""
