"""Solving R(q; flow) = 0 and its linear systems, and the rules by which a solution is differentiated (``adjoint.py``)."""
