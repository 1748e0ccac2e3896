package debezium

import (
	"fmt"
	"slices"
	"strings"
)

// Resumption is what a connector goes on with where a streamer has stopped.
type Resumption struct {
	Slot, Publication string
	// KeepOffsets reports that the connector's old offsets are kept. They are from
	// before the streamer, and the slot has moved on since.
	KeepOffsets bool
}

// Requirement is a value that an option must have.
type Requirement struct {
	Option string `json:"option"`
	Value  string `json:"value"`
	Why    string `json:"why"`

	fallback string   // Debezium's default
	others   []string // that do the same
	advised  bool     // another value does no harm by itself
	isName   bool     // of something in the database
}

// Deviation is an option of a connector with another value than it must have.
type Deviation struct {
	Requirement
	Has     string `json:"has"`
	Default bool   `json:"default"` // it is not set
	// Unknown reports that the value is a reference to another place.
	Unknown bool `json:"unknown"`
	Fatal   bool `json:"fatal"` // the connector would fail, lose or repeat events
}

func (d Deviation) String() string {
	has := "is " + d.Has
	switch {
	case d.Unknown:
		has = "is in another place, and was not checked"
	case d.Default:
		has = "is not set, and " + d.Has + " by default"
	}
	verb := "must be"
	if !d.Fatal {
		verb = "should be"
	}
	return fmt.Sprintf("%s %s: it %s %s, because %s", d.Option, has, verb, d.Value, d.Why)
}

// allows reports whether the option may have the value. Names have one spelling.
func (q Requirement) allows(value string) bool {
	return value == q.Value || !q.isName && slices.Contains(append(q.others, q.Value), strings.ToLower(value))
}

// Requirements are the options that decide about where the connector begins, in
// the order in which an operator reads them.
func (r Resumption) Requirements() []Requirement {
	all := []Requirement{
		{Option: "slot.name", Value: r.Slot, Why: "that slot has the position", fallback: "debezium", isName: true},
		{Option: "publication.name", Value: r.Publication, Why: "the slot is read with it", fallback: "dbz_publication", isName: true},
		{Option: "plugin.name", Value: "pgoutput", Why: "the slot has this plugin", fallback: "decoderbufs"},
		{
			Option: "publication.autocreate.mode", Value: "disabled", Why: "the publication exists and others may use it",
			fallback: "all_tables", advised: true,
		},
		{
			Option: "snapshot.mode", Value: "no_data", Why: "a snapshot publishes the rows of the table again",
			fallback: "initial", others: []string{"never"},
		},
		{
			Option: "slot.drop.on.stop", Value: "false", Why: "without the slot, what is committed meanwhile is lost", fallback: "false",
		},
	}
	if r.KeepOffsets {
		all = append(all, Requirement{
			Option: "offset.mismatch.strategy", Value: "trust_slot",
			Why:      "the connector's old offsets are below the slot's position, and no task starts from there",
			fallback: "no_validation",
		})
	}
	return all
}

// Deviations compares the connector with what it goes on with.
func (c Connector) Deviations(r Resumption) []Deviation {
	var found []Deviation
	for _, q := range r.Requirements() {
		has := c.value(q.Option, q.fallback)
		unknown := strings.Contains(has, "${")
		if unknown {
			has = "" // it may be part of a secret's place
		} else if q.allows(has) {
			continue
		}
		found = append(found, Deviation{
			Requirement: q, Has: has, Unknown: unknown, Default: !c.has(q.Option), Fatal: !q.advised && !unknown,
		})
	}
	return found
}

// Prefix returns topic.prefix, which names the connector's offsets.
func (c Connector) Prefix() string {
	return c.value("topic.prefix", c.value("database.server.name", ""))
}

// IsServer reports whether the connector runs in Debezium Server.
func (c Connector) IsServer() bool { return c.isServer }
