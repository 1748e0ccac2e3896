package debezium

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/config"
)

// load makes the configuration of the settings. A value that it does not take
// is left out, and its option has no equivalent then.
func (t *translator) load() (*config.Loaded, error) {
	for range len(t.settings) + 1 {
		loaded, err := config.Load(config.Options{NoFile: true, Flags: t.settings})
		if err == nil {
			return loaded, nil
		}
		if !t.withdraw(err) {
			return nil, fmt.Errorf("translate connector %q: %w", t.Name, err)
		}
	}
	return nil, errors.New("translate: no configuration found")
}

// withdraw takes back the settings with which there is a problem. It reports
// whether there is anything to try again.
func (t *translator) withdraw(err error) bool {
	before := len(t.settings)
	for _, p := range problems(err) {
		if p.Key == "checkpoint.kafka.topic" { // events could be written to it
			t.set(p.Key, "_"+config.Default().Checkpoint.Kafka.Topic, "The usual name looks like a topic of events.")
			return true
		}
		for _, key := range t.concerned(p.Key) {
			t.reject(key, p.Remedy)
		}
	}
	return len(t.settings) < before
}

// concerned are the settings that a problem with a key is about: the key, or the
// list that it is in, or its section, if the problem is that something is
// missing.
func (t *translator) concerned(key string) []string {
	for at := key; at != ""; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if _, isSet := t.settings[at]; isSet {
			return []string{at}
		}
	}
	section := key[:strings.LastIndexByte(key, '.')+1]
	return slices.DeleteFunc(slices.Sorted(maps.Keys(t.settings)), func(set string) bool {
		return section == "" || !strings.HasPrefix(set, section)
	})
}

// reject takes back a setting. Its options have no equivalent then.
func (t *translator) reject(key, why string) {
	delete(t.settings, key)
	t.remark(key, "Not taken over: "+why)
	for name, f := range t.findings {
		if slices.Contains(f.entry.Keys, key) {
			t.lacks(name, "what it says is not taken for "+key+": "+why, "set "+key)
		}
	}
}

// problems are the problems of a configuration, one by one.
func problems(err error) []*config.Problem {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var all []*config.Problem
	for _, e := range joined.Unwrap() {
		if p, ok := errors.AsType[*config.Problem](e); ok {
			all = append(all, p)
		}
	}
	return all
}
