package debezium

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/internal/config"
)

// Result is a configuration to be written and what became of each option.
type Result struct {
	Draft  config.Draft
	Report Report
}

// verdict is one of the three lists of a report.
type verdict int

const (
	same verdict = iota
	different
	noEquivalent
)

// finding is what became of an option.
type finding struct {
	verdict verdict
	entry   Entry
}

// translator collects settings and findings.
type translator struct {
	Connector
	settings map[string]string // our keys, as on the command line
	remarks  map[string]string // by key, for the file
	findings map[string]finding
	notes    []Entry // differences that belong to no option of the file
	refusals []Entry // what belongs to no option and has no equivalent
	// flavour is the value of cloudevents.compatibility, or incompatible says why
	// there is none.
	flavour, incompatible string
}

// Translate makes a configuration of the streamer. The error is about a mistake
// of the translation, not of the file.
func (c Connector) Translate() (Result, error) {
	t := &translator{
		Connector: c, settings: map[string]string{}, remarks: map[string]string{}, findings: map[string]finding{}, refusals: c.ignored,
	}
	t.database()
	t.slot()
	t.start()
	t.compatibility()
	t.outboxes()
	t.converters()
	t.failures()
	t.producer()
	t.security()
	t.topics()
	t.transforms()
	t.rest()
	loaded, err := t.load()
	if err != nil {
		return Result{}, err
	}
	return Result{Draft: t.draft(loaded.Config), Report: t.report()}, nil
}

// set sets one of our keys.
func (t *translator) set(key, value string, remark ...string) {
	t.settings[key] = value
	for _, r := range remark {
		t.remark(key, r)
	}
}

// remark adds a comment to a key of the file, once.
func (t *translator) remark(key, text string) {
	text = printable(text)
	if !strings.Contains(t.remarks[key], text) {
		t.remarks[key] = strings.TrimSpace(t.remarks[key] + "\n" + text)
	}
}

// same notes that the option means what the keys mean.
func (t *translator) same(name, says string, keys ...string) {
	t.findings[name] = finding{same, Entry{Says: says, Keys: keys}}
}

// differs notes how the keys differ from the option, and for whom.
func (t *translator) differs(name, how, concerns string, keys ...string) {
	t.findings[name] = finding{different, Entry{Says: how, Concerns: concerns, Keys: keys}}
}

// lacks notes that nothing is like the option, and what to do.
func (t *translator) lacks(name, why, action string) {
	t.findings[name] = finding{noEquivalent, Entry{Says: why, Action: action}}
}

// deployment is for whom a difference matters that consumers do not see.
const deployment = "the deployment of the streamer"

// nothingToDo is the action where an option has no effect on events.
const nothingToDo = "nothing"

// literal returns the value of an option for a key of ours. A value that is
// kept elsewhere is left to the key's environment variable, and the option is noted.
func (t *translator) literal(name, key string) (string, bool) {
	if !t.has(name) {
		return "", false
	}
	value := t.value(name, "")
	r, isReference := findReference(name, value)
	if !isReference {
		return value, true
	}
	variable := variableOf(key)
	t.differs(name, fmt.Sprintf("the value is kept elsewhere: set %s to it (%s)", variable, r), deployment, key)
	t.remark(key, fmt.Sprintf("Not set here: set %s to the value of %s.", variable, r))
	return "", false
}

// variableOf is the environment variable that sets a key.
func variableOf(key string) string {
	return "STREAMER_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// copied takes over an option whose value means the same to a key of ours.
func (t *translator) copied(name, key string, convert func(string) (string, error)) {
	value, ok := t.literal(name, key)
	if !ok {
		return
	}
	if convert != nil {
		converted, err := convert(value)
		if err != nil {
			t.lacks(name, err.Error(), "set "+key)
			return
		}
		value = converted
	}
	t.set(key, value)
	t.same(name, "", key)
}

// isTrue reports whether an option is on.
func (t *translator) isTrue(name string, fallback bool) bool {
	return strings.EqualFold(t.value(name, strconv.FormatBool(fallback)), "true")
}
