"""Linear systems with the Jacobian of a flow: its assembly, what solves with it, directly or nearly, and Krylov's methods."""
