// The bundler of the page has a module of its own, so that whoever builds trace
// never fetches it.
module trace/web/build

go 1.26.3

require github.com/evanw/esbuild v0.28.2

require golang.org/x/sys v0.0.0-20220715151400-c0bba94af5f8 // indirect
