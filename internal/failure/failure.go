// Package failure says what an error means for the process: whether to try
// again or to stop, and with which exit code.
//
// Every error is transient unless it is marked otherwise. A new session from
// the checkpoint is the only way to recover, and it is always safe. The other
// classes end the process.
package failure

import "errors"

// Class is what the caller can do about an error.
type Class int

const (
	// Transient errors end the session; the next one starts from the
	// checkpoint after a back-off.
	Transient Class = iota
	// Misconfigured errors need another configuration: exit code 2.
	Misconfigured
	// Refused errors need the operator's decision, because going on would skip or
	// endanger data, or because the servers are not set up: exit code 3.
	Refused
)

type classified struct {
	error
	class Class
}

func (e *classified) Unwrap() error { return e.error }

// Refuse marks err as one that only the operator can resolve. A nil err stays
// nil.
func Refuse(err error) error { return classify(err, Refused) }

// Misconfigure marks err as a mistake in the configuration. A nil err stays
// nil.
func Misconfigure(err error) error { return classify(err, Misconfigured) }

// Retry marks err as transient, whatever it wraps: the outermost mark counts.
func Retry(err error) error { return classify(err, Transient) }

func classify(err error, class Class) error {
	if err == nil {
		return nil
	}
	return &classified{err, class}
}

// ClassOf is the class of the outermost mark on err, Transient without one.
func ClassOf(err error) Class {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	return Transient
}
