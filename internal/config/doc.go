// Package config is everything that the operator can set: the keys and their
// meaning, where values come from (defaults, file, environment, flags), what is
// accepted, and how it is shown.
//
// Package config imports no other package of this module. The command line
// passes flags and environment to Load, wires the result into the stages, and
// prints Reference, Schema and WriteEffective. No secret leaves the package
// except through Reveal.
package config
