package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate checks the whole configuration. The error holds every problem found,
// each a *Problem.
func (c Config) Validate() error { return join(c.problems()) }

// checker collects the problems of one configuration.
type checker struct {
	Config
	found []*Problem
}

func (c Config) problems() []*Problem {
	k := &checker{Config: c}
	for _, s := range c.settings() {
		k.setting(s)
	}
	k.postgres()
	k.shard()
	k.outboxes()
	k.snapshot()
	k.cloudEvents()
	k.compatibility()
	k.generalRoutes()
	k.brokers()
	k.producer()
	k.tls()
	k.sasl()
	k.aws()
	k.checkpoint()
	k.process()
	return k.found
}

// add notes a problem with a value that may be shown.
func (k *checker) add(at, value, remedy string) {
	k.found = append(k.found, &Problem{Key: at, Value: quote(value), Remedy: remedy})
}

// addHidden notes a problem with a value that is missing or must not be shown.
func (k *checker) addHidden(at, remedy string) {
	k.found = append(k.found, &Problem{Key: at, Remedy: remedy})
}

// setting checks a value against the tags of its key.
func (k *checker) setting(s setting) {
	switch value := s.value.Interface().(type) {
	case Secret:
		if value.isMask() {
			k.addHidden(s.at, "this is the mask of a secret, not the secret: write the secret, or file: and the path of a file that holds it")
		}
		k.command(s.at, value)
		return
	case DSN:
		if value.isMasked() {
			k.addHidden(
				s.at,
				"this contains the mask of a password, not the password: write the password, or file: and the path of a file that holds the DSN",
			)
		}
		k.command(s.at, value.secret)
		if !value.isWellFormed() {
			k.addHidden(s.at, "not a connection string: write postgres://user@host:5432/database, or host=... dbname=..., "+
				"or file: and a path, or exec: and a command")
		}
		return
	}
	if s.enum != nil && !slices.Contains(s.enum, s.value.String()) {
		k.add(s.at, s.value.String(), "use "+alternatives(s.enum)+s.suggestion())
	}
	if s.min != "" && s.value.Int() < bound(s.key, s.min) {
		k.add(s.at, s.shown(), "must be at least "+s.min)
	}
	if s.max != "" && s.value.Int() > bound(s.key, s.max) {
		k.add(s.at, s.shown(), "must be at most "+s.max)
	}
}

// suggestion is for long lists of accepted values, where a typo is hard to see.
func (s setting) suggestion() string {
	const long = 8
	if len(s.enum) <= long {
		return ""
	}
	return didYouMean(nearest(s.value.String(), s.enum, "."))
}

// command checks the command of a secret. It may hold secrets itself, so it is
// not shown.
func (k *checker) command(at string, secret Secret) {
	if secret.text == nil {
		return
	}
	if line, ok := strings.CutPrefix(*secret.text, commandReference); ok {
		if _, err := splitCommand(line); err != nil {
			k.addHidden(at, err.Error())
		}
	}
}

// shown returns the value as the operator writes it. Secrets are masked.
func (s setting) shown() string { return fmt.Sprint(s.value.Interface()) }

// bound returns the number that a min or max tag means for a key. A tag without
// a number is a programming mistake.
func bound(k *key, tag string) int64 {
	var n int64
	var err error
	switch k.kind {
	case kindDuration:
		var d time.Duration
		d, err = time.ParseDuration(tag)
		n = int64(d)
	case kindSize:
		var s Size
		s, err = ParseSize(tag)
		n = int64(s)
	default:
		n, err = strconv.ParseInt(tag, 10, 64)
	}
	if err != nil {
		panic("config: bound of " + k.path + ": " + err.Error()) //nolint:forbidigo // a mistake in a tag of Config, which every test shows
	}
	return n
}

// alternatives returns "a, b or c". An empty item stands for leaving the value
// empty.
func alternatives(items []string) string {
	shown := slices.Clone(items)
	if i := slices.Index(shown, ""); i >= 0 {
		shown = append(slices.Delete(shown, i, i+1), "an empty value")
	}
	if len(shown) == 1 {
		return shown[0]
	}
	return strings.Join(shown[:len(shown)-1], ", ") + " or " + shown[len(shown)-1]
}
