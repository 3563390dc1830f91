// A channel that turns by a right angle, in quadrilaterals. To make the mesh again: gmsh -2 bend.geo -o bend.msh
n = 8; // across
Point(1) = {-1, 0.5, 0}; Point(2) = {0, 0.5, 0}; Point(3) = {1.5, 2, 0}; Point(4) = {1.5, 4, 0};  // outer wall
Point(5) = {-1, 1.5, 0}; Point(6) = {0, 1.5, 0}; Point(7) = {0.5, 2, 0}; Point(8) = {0.5, 4, 0};  // inner wall
Point(9) = {0, 2, 0};                                                                             // center of the arcs
Line(1) = {1, 2}; Circle(2) = {2, 9, 3}; Line(3) = {3, 4};
Line(4) = {5, 6}; Circle(5) = {6, 9, 7}; Line(6) = {7, 8};
Line(7) = {1, 5}; Line(8) = {2, 6}; Line(9) = {3, 7}; Line(10) = {4, 8};
Curve Loop(1) = {1, 8, -4, -7}; Curve Loop(2) = {2, 9, -5, -8}; Curve Loop(3) = {3, 10, -6, -9};
For k In {1:3}
  Plane Surface(k) = {k};
EndFor
Transfinite Curve {7, 8, 9, 10} = n + 1 Using Bump 0.4;
Transfinite Curve {1, 4} = 6;
Transfinite Curve {2, 5} = 11;
Transfinite Curve {3} = 11 Using Progression 1.1;
Transfinite Curve {6} = 11 Using Progression 1.1;
Transfinite Surface {1:3};
Recombine Surface {1:3};
Physical Curve("inlet") = {7};
Physical Curve("outlet") = {10};
Physical Curve("walls") = {1:6};
Physical Surface("fluid") = {1:3};
