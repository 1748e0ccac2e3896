package debezium

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// File is the content of one file.
type File struct {
	Name    string
	Content []byte
}

// contents is what one file holds: connectors, or what a worker adds to each.
type contents struct {
	connectors []Connector
	worker     map[string]option
	ignored    []Entry
}

// add adds what is in another part of the file.
func (c *contents) add(other contents) {
	c.connectors = append(c.connectors, other.connectors...)
	c.ignored = append(c.ignored, other.ignored...)
}

// isManifest tells a manifest of Kubernetes from properties.
var isManifest = regexp.MustCompile(`(?m)^apiVersion:\s`)

// Read returns the connectors in the files. A worker's properties apply to all
// connectors of the other files. The error is misconfigured, and quotes no
// value.
func Read(files []File) ([]Connector, error) {
	var all contents
	for _, f := range files {
		found, err := f.read()
		if err != nil {
			return nil, failure.Misconfigure(fmt.Errorf("%s: %w", f.Name, err))
		}
		for _, c := range found.connectors {
			c.Name = cmp.Or(c.Name, strings.TrimSuffix(filepath.Base(f.Name), filepath.Ext(f.Name)))
			all.connectors = append(all.connectors, c)
		}
		all.ignored = append(all.ignored, found.ignored...)
		if all.worker == nil {
			all.worker = found.worker
		} else if found.worker != nil {
			return nil, failure.Misconfigure(failure.Advise(
				fmt.Errorf("%s: a second worker's properties", f.Name), "name the file of one worker"))
		}
	}
	if len(all.connectors) == 0 {
		return nil, failure.Misconfigure(failure.Advise(
			errors.New("no connector: there are only the properties of a worker"),
			"name the connector's file too, or save GET /connectors?expand=info to a file"))
	}
	seen := map[string]bool{}
	for i := range all.connectors {
		c := &all.connectors[i]
		if seen[c.Name] {
			return nil, failure.Misconfigure(failure.Advise(
				fmt.Errorf("two connectors are called %q", c.Name), "name only the file of the one to import"))
		}
		seen[c.Name] = true
		c.ignored = all.ignored
		c.employ(all.worker)
	}
	return all.connectors, nil
}

var errForeign = failure.Advise(
	errors.New("not a Debezium configuration"),
	"name a connector's JSON or properties, the reply of GET /connectors?expand=info, or the application.properties of Debezium Server",
)

func (f File) read() (contents, error) {
	switch text := strings.TrimSpace(strings.TrimPrefix(string(f.Content), "\ufeff")); {
	case text == "":
		return contents{}, failure.Advise(errors.New("the file is empty"), "name a file with a connector's configuration")
	case text[0] == '{' || text[0] == '[':
		return readJSON([]byte(text))
	case isManifest.MatchString(text):
		return readManifests([]byte(text))
	default:
		return readProperties(text)
	}
}

// newConnector takes options as Kafka Connect has them.
func newConnector(name string, values map[string]string) Connector {
	c := Connector{Name: name, options: map[string]option{}}
	for key, value := range values {
		c.options[key] = option{key, strings.TrimSpace(value)}
	}
	if c.Name == "" {
		c.Name = c.value("name", "")
	}
	return c
}

// employ adds what the worker says to what the connector says. An option that
// the connector overrides has no effect, and is noted as one of the worker's.
func (c *Connector) employ(worker map[string]option) {
	unset := slices.DeleteFunc(slices.Clone(converters), c.has)
	for _, name := range slices.Sorted(maps.Keys(worker)) {
		o := worker[name]
		o.spelled = "worker: " + o.spelled
		as := workerPrefix + name
		if rest, isProducer := strings.CutPrefix(name, "producer."); isProducer {
			as = producerPrefix + rest
		}
		if name == "bootstrap.servers" {
			as = producerPrefix + name
		}
		if slices.ContainsFunc(unset, func(converter string) bool { return isBelow(name, converter) }) {
			as = name
		}
		if c.has(as) {
			as = workerPrefix + name
		}
		c.options[as] = o
	}
}

// converters are the options that name them.
var converters = []string{"key.converter", "value.converter", "header.converter"}

// isBelow reports whether an option is that one, or belongs to it.
func isBelow(name, option string) bool { return name == option || strings.HasPrefix(name, option+".") }
