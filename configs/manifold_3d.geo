// A round header that feeds three round branches, in tetrahedra: the half with z > 0. To make the mesh again:
// gmsh -3 manifold_3d.geo -o manifold_3d.msh
SetFactory("OpenCASCADE");
h = 0.3;
Cylinder(1) = {0, 0, 0, 5.5, 0, 0, 0.5};
For k In {0:2}
  Cylinder(2 + k) = {1.75 + 1.5*k, 0, 0, 0, 2, 0, 0.3};
EndFor
BooleanUnion(10) = { Volume{1}; Delete; }{ Volume{2:4}; Delete; };
Box(11) = {-1, -1, 0, 8, 4, 1};
BooleanIntersection(12) = { Volume{10}; Delete; }{ Volume{11}; Delete; };
e = 1e-3;
inlet() = Surface In BoundingBox {-e, -1, -e, e, 1, 1};
outlet_1() = Surface In BoundingBox {1, 2 - e, -e, 2.5, 2 + e, 1};
outlet_2() = Surface In BoundingBox {2.5, 2 - e, -e, 4, 2 + e, 1};
outlet_3() = Surface In BoundingBox {4, 2 - e, -e, 5.5, 2 + e, 1};
middle() = Surface In BoundingBox {-1, -1, -e, 7, 4, e};
walls() = Surface{:};
walls() -= {inlet(), outlet_1(), outlet_2(), outlet_3(), middle()};
Physical Surface("inlet") = {inlet()};
Physical Surface("outlet_1") = {outlet_1()};
Physical Surface("outlet_2") = {outlet_2()};
Physical Surface("outlet_3") = {outlet_3()};
Physical Surface("middle") = {middle()};
Physical Surface("walls") = {walls()};
Physical Volume("fluid") = {12};
Mesh.MeshSizeMin = 0.6*h;
Mesh.MeshSizeMax = h;
Mesh.MeshSizeFromCurvature = 12;
