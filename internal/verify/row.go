package verify

import (
	"hash/maphash"
	"time"

	"github.com/outboxstream/streamer/replication"
)

// Row is an event that should be in Kafka. Parts that are nil are unknown and
// not compared. Slices are read only during the call that takes the row.
type Row struct {
	ID      []byte
	Topic   []byte
	Key     []byte
	Type    []byte
	Subject []byte
	Source  []byte
	// Time is the attribute, RFC 3339 in UTC.
	Time        []byte
	ContentType []byte
	Payload     *PayloadHash
	// Attributes are the extensions, if HasAttributes.
	Attributes    []Attribute
	HasAttributes bool
	// Written is when the row was inserted, zero if unknown. It must not be later
	// than the commit.
	Written time.Time
	// Position is in commit order, zero if unknown.
	Position replication.Position
	// Unreadable rows become records without an ID, about which nothing can be
	// said: tombstones in structured mode.
	Unreadable bool
}

// Attribute is a CloudEvents extension.
type Attribute struct {
	Name  string
	Value []byte
}

func (r *Row) facts(seed maphash.Seed, names map[string]bool) facts {
	var f facts
	f.set(factTopic, seed, r.Topic)
	f.set(factKey, seed, r.Key)
	f.set(factType, seed, r.Type)
	f.set(factSubject, seed, r.Subject)
	f.set(factSource, seed, r.Source)
	f.set(factTime, seed, r.Time)
	f.set(factContentType, seed, r.ContentType)
	if r.Payload != nil {
		f[factPayload] = r.Payload.fact()
	}
	if r.HasAttributes {
		set := attributeSet{seed: seed, names: names}
		for _, a := range r.Attributes {
			set.add(a.Name, a.Value)
		}
		f[factAttributes] = set.fact()
	}
	return f
}
