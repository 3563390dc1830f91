"""Solving R(q; flow) = 0, and the rules by which a solution is differentiated (``adjoint.py``)."""
