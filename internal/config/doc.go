// Package config is everything an operator can set: its keys and their meaning, where values come from (defaults, file,
// environment, flags), what is accepted, and how it is shown.
//
// It knows no other package of this module. The command line passes flags and environment to Load, wires the result
// into the stages, and prints Reference, Schema and WriteEffective. No secret leaves it except through Reveal.
package config
