// Package release tests what a release consists of: the workflows, and the
// packages. It is a module of its own for the sake of goreleaser, which only a
// release needs. `make test` builds a package with a stand-in for the binary;
// `make release` tests those that it has built, in STREAMER_DIST.
package release
