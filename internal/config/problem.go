package config

import (
	"errors"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a configuration. Load and Validate
// return all of them, joined.
type Problem struct {
	Key    string // dotted path of the key, or the name of the environment variable or flag where no key is known
	Value  string // offending value, quoted; empty if there is none or it must not be shown
	Where  string // where it was set: "streamer.yaml:12", "environment STREAMER_KAFKA_TOPIC"; empty for a default
	Remedy string // what is wrong, and what to do about it
}

// Error returns the problem in one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Key)
	if p.Where != "" {
		b.WriteString(" (" + p.Where + ")")
	}
	b.WriteString(": ")
	if p.Value != "" {
		b.WriteString(p.Value + ": ")
	}
	b.WriteString(p.Remedy)
	return b.String()
}

func join(problems []*Problem) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// quote makes a value visible in a message, shortened if it is very long.
func quote(value string) string {
	const longest = 200
	if len(value) > longest {
		value = strings.ToValidUTF8(value[:longest], "") + "…"
	}
	return strconv.Quote(value)
}
