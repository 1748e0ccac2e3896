package debezium

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/outboxstream/streamer/internal/config"
)

// report lists all findings.
func (t *translator) report() Report {
	r := Report{Connector: printable(t.Name), Same: []Entry{}, Different: slices.Clone(t.notes), NoEquivalent: slices.Clone(t.refusals)}
	for name, f := range t.findings {
		o, inFile := t.options[name]
		if !inFile || o.spelled == "" {
			continue // it has its default
		}
		f.entry.Option = o.spelled
		f.entry.Says = printable(f.entry.Says)
		switch f.verdict {
		case same:
			r.Same = append(r.Same, f.entry)
		case different:
			r.Different = append(r.Different, f.entry)
		case noEquivalent:
			r.NoEquivalent = append(r.NoEquivalent, f.entry)
		}
	}
	r.sort()
	return r
}

const heading = "Written by streamer import debezium from connector %s. Read its report before you use this file: it says what " +
	"is different and what has no equivalent. `streamer config` checks this file and shows what applies.\n" +
	"Only one program can read from a replication slot: stop the connector before the streamer starts.\n" +
	"Next: `streamer doctor` and `streamer preview`, which change nothing."

// draft is the file, with what could not be set as comments.
func (t *translator) draft(c config.Config) config.Draft {
	keys := slices.Sorted(maps.Keys(t.settings))
	hints := []string{"poison.policy", "cloudevents.source", "cloudevents.mode", "checkpoint.store", "http.listen"}
	for key := range t.remarks {
		if !slices.Contains(keys, key) {
			hints = append(hints, key)
		}
	}
	slices.Sort(hints)
	return config.Draft{
		Config: c, Heading: fmt.Sprintf(heading, printable(t.Name)), Keys: keys, Hints: slices.Compact(hints), Remarks: t.remarks,
	}
}

// printable is a text on one line, without characters that move the cursor of a
// terminal or that YAML does not allow.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, strings.Join(strings.Fields(text), " "))
}
