// The packages that a program is made of are initialised in the order of their
// import paths, as far as what they import allows (Go specification, Package
// initialization). This one has to come early: see ahead.go. Hence a path of
// its own, which no path below the module's would do.
module ahead

go 1.26.3

require golang.org/x/sys v0.49.0
