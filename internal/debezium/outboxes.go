package debezium

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// outbox is what one router says about its tables, as an entry of outboxes is
// written.
type outbox struct {
	Table       string            `json:"table"`
	Columns     map[string]string `json:"columns,omitempty"`
	Defaults    map[string]string `json:"defaults,omitempty"`
	Extensions  map[string]string `json:"extensions,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	NullPayload string            `json:"null_payload,omitempty"`
	Topic       string            `json:"topic,omitempty"`
	Routes      []route           `json:"routes,omitempty"`
}

// outboxes translates the routers and the tables that they are applied to.
func (t *translator) outboxes() {
	var entries []outbox
	exact := !t.renamesTopics()
	tables := t.selectTables()
	for _, name := range t.routers() {
		r := t.router(name)
		r.columns()
		r.placement()
		r.route()
		r.payload()
		r.behaviour()
		exact = exact && r.exact
		routed := r.routed(tables)
		if len(routed) == 0 {
			routed = []string{""} // not known
		}
		for _, table := range routed {
			entry := r.outbox
			entry.Table = table
			entries = append(entries, entry)
		}
	}
	t.leftOut(tables, entries)
	t.publish(entries, exact)
}

// publish sets the keys of one table, or the list of several.
func (t *translator) publish(entries []outbox, exact bool) {
	t.set("kafka.topics.create", strconv.FormatBool(exact))
	if exact {
		t.remark("kafka.topics.create", "A topic that is missing is refused otherwise. Debezium leaves it to Kafka Connect or to the brokers.")
	} else {
		t.remark("kafka.topics.create", "Not all topics could be translated: see the report. A wrong one is refused, and not created.")
	}
	first := entries[0]
	named := slices.DeleteFunc(slices.Clone(entries), func(o outbox) bool { return o.Table == "" })
	if len(named) == 0 || len(named) == 1 && !strings.Contains(named[0].Table, "*") {
		t.single(append(named, first)[0])
		return
	}
	entries = named
	topic := entries[0].Topic
	t.set("kafka.topic", topic)
	for i := range entries {
		if entries[i].Topic == topic {
			entries[i].Topic = ""
		}
	}
	t.set("outboxes", asJSON(entries))
	t.moveToList()
}

// moveToList makes what is said about a single table a part of the list.
func (t *translator) moveToList() {
	const single, list = "outbox.", "outboxes"
	for _, key := range slices.Sorted(maps.Keys(t.remarks)) {
		if strings.HasPrefix(key, single) {
			t.remark(list, t.remarks[key])
			delete(t.remarks, key)
		}
	}
	for name, f := range t.findings {
		if slices.ContainsFunc(f.entry.Keys, func(key string) bool { return strings.HasPrefix(key, single) }) {
			f.entry.Keys = append(slices.DeleteFunc(slices.Clone(f.entry.Keys), func(key string) bool {
				return strings.HasPrefix(key, single)
			}), list)
			t.findings[name] = f
		}
	}
}

func (t *translator) single(o outbox) {
	t.set("kafka.topic", o.Topic)
	if o.Table == "" {
		t.remark("outbox.table", "Name the table here: see the report.")
	} else {
		t.set("outbox.table", o.Table)
	}
	for key, value := range o.Columns {
		t.set("outbox.columns."+key, value)
	}
	for key, value := range o.Defaults {
		t.set("outbox.defaults."+key, value)
	}
	for key, value := range o.Extensions {
		t.set("outbox.extensions."+key, value)
	}
	for key, value := range o.Headers {
		t.set("outbox.headers."+key, value)
	}
	if o.NullPayload != "" {
		t.set("outbox.null_payload", o.NullPayload)
	}
	if len(o.Routes) > 0 {
		t.set("routes", asJSON(o.Routes))
	}
}

// asJSON writes a list on one line, which is YAML as well.
func asJSON(list any) string {
	text, err := json.Marshal(list)
	if err != nil {
		return "[]" // texts can always be written
	}
	return string(text)
}
