// A header that feeds three branches. To make the mesh again: gmsh -2 manifold.geo -o manifold.msh
h = 0.175;
Point(1) = {0, 0, 0, h};        Point(2) = {5.5, 0, 0, h};      Point(3) = {5.5, 1, 0, h};
Point(4) = {5, 1, 0, 0.6*h};    Point(5) = {5, 2, 0, h};      Point(6) = {4.5, 2, 0, h};    Point(7) = {4.5, 1, 0, 0.6*h};
Point(8) = {3.5, 1, 0, 0.6*h};  Point(9) = {3.5, 2, 0, h};    Point(10) = {3, 2, 0, h};     Point(11) = {3, 1, 0, 0.6*h};
Point(12) = {2, 1, 0, 0.6*h};   Point(13) = {2, 2, 0, h};     Point(14) = {1.5, 2, 0, h};   Point(15) = {1.5, 1, 0, 0.6*h};
Point(16) = {0, 1, 0, h};
For k In {1:15}
  Line(k) = {k, k + 1};
EndFor
Line(16) = {16, 1};
Curve Loop(1) = {1:16};
Plane Surface(1) = {1};
Physical Curve("inlet") = {16};
Physical Curve("outlet_1") = {13};
Physical Curve("outlet_2") = {9};
Physical Curve("outlet_3") = {5};
Physical Curve("walls") = {1:4, 6:8, 10:12, 14:15};
Physical Surface("fluid") = {1};
