package failure

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// advised is an error together with what the operator can do about it.
type advised struct {
	error
	remedy string
}

func (e *advised) Unwrap() error { return e.error }

// Fix is the remedy.
func (e *advised) Fix() string { return e.remedy }

// Advise adds to a problem what the operator can do about it, if possible
// something to paste. The remedy is not part of the error's text: it is shown
// on its own line. A nil err stays nil.
func Advise(err error, remedy string, arguments ...any) error {
	if err == nil {
		return nil
	}
	if len(arguments) > 0 {
		remedy = fmt.Sprintf(remedy, arguments...)
	}
	return &advised{err, remedy}
}

// Report is a problem and what to do about it. The remedy may be empty.
type Report struct {
	Problem string
	Fix     string
}

// String is the report on one line, for places that have room for only one.
func (r Report) String() string {
	if r.Fix == "" {
		return r.Problem
	}
	return r.Problem + "; fix: " + r.Fix
}

// Reports splits an error into one report for each error of a join. Each report
// contains all remedies of its error.
func Reports(err error) []Report {
	if err == nil {
		return nil
	}
	if joined, ok := unmarked(err).(interface{ Unwrap() []error }); ok && isJoin(joined.Unwrap(), err) {
		var all []Report
		for _, e := range joined.Unwrap() {
			all = append(all, Reports(e)...)
		}
		return all
	}
	return []Report{{err.Error(), Fix(err)}}
}

// Describe is an error with its remedies on one line.
func Describe(err error) string {
	var all []string
	for _, r := range Reports(err) {
		all = append(all, r.String())
	}
	return strings.Join(all, "; ")
}

// Fix is what can be done about an error: its remedies from the outermost
// inwards, each once. It is empty without a remedy.
func Fix(err error) string {
	var all []string
	collect(err, &all)
	return strings.Join(all, "; ")
}

func collect(err error, into *[]string) {
	if advised, ok := err.(interface{ Fix() string }); ok {
		if remedy := advised.Fix(); remedy != "" && !slices.Contains(*into, remedy) {
			*into = append(*into, remedy)
		}
	}
	switch wraps := err.(type) { //nolint:errorlint // the tree is walked
	case interface{ Unwrap() error }:
		collect(wraps.Unwrap(), into)
	case interface{ Unwrap() []error }:
		for _, e := range wraps.Unwrap() {
			collect(e, into)
		}
	}
}

// unmarked is the error to which a class was given.
func unmarked(err error) error {
	for {
		marked, ok := err.(*classified) //nolint:errorlint // only the outermost
		if !ok {
			return err
		}
		err = marked.error
	}
}

// isJoin distinguishes errors.Join from a format with several %w.
func isJoin(parts []error, err error) bool { return errors.Join(parts...).Error() == err.Error() }
