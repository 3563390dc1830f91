"""Commands at work: a run's job and folder, designs, sensitivities, sweeps, and how each goes on after a stop."""
