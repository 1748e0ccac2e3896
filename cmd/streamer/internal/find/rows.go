package find

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
)

// lookAtRows looks for the row in the outbox tables, by the ID, or by the key
// where that is a column. A table does not know positions.
func (s *search) lookAtRows(ctx context.Context) error {
	if s.control == nil || s.asked.id == "" && s.asked.key == nil {
		return nil
	}
	var impossible error
	searched, values := 0, map[string]bool{}
	for _, t := range s.tables {
		o := s.cfg.Tables()[t.Outbox.Entry]
		by := wanted{reference: o.Columns.ID, value: s.asked.id, most: int(s.command.Limit)}
		if s.asked.id == "" {
			by.reference, by.value = keyColumn(o), *s.asked.key
		}
		found, err := s.lookAtTable(ctx, t, by)
		switch {
		case errors.Is(err, replication.ErrOtherType):
			impossible = s.otherType(t, o)
			continue
		case err != nil:
			return err
		}
		searched++
		if found != "" {
			values[found] = true
		}
	}
	for _, o := range s.cfg.Tables() {
		if o.Messages != "" {
			s.note("rows of messages with prefix %q: there are none, a message is only in the WAL and in Kafka", o.Messages)
			searched++
		}
	}
	if impossible != nil && searched == 0 && s.asked.id != "" {
		return impossible
	}
	s.adopt(values)
	return nil
}

// adopt takes the ID as events have it: as their rows say, or as the server
// prints it.
func (s *search) adopt(values map[string]bool) {
	if s.asked.id == "" {
		return
	}
	if len(s.events) > 0 {
		clear(values)
		for _, e := range s.events {
			values[e.ID] = true
		}
	}
	for value := range values {
		if len(values) == 1 {
			s.asked.id = value
		}
	}
}

// lookAtRowsOf looks for the rows of events that were found by something else
// than their ID.
func (s *search) lookAtRowsOf(ctx context.Context) error {
	if s.control == nil || s.asked.id != "" {
		return nil
	}
	for _, e := range slices.Clone(s.events) {
		for _, t := range s.tables {
			if e.Row != nil || s.slow[t.Outbox.Table] {
				continue
			}
			_, err := s.lookAtTable(ctx, t, wanted{reference: s.cfg.Tables()[t.Outbox.Entry].Columns.ID, value: e.ID, most: 1})
			if err != nil && !errors.Is(err, replication.ErrOtherType) {
				return err
			}
		}
	}
	return nil
}

// otherType says that no event of a table can have such an ID. The usual mistake
// is to give an aggregate ID.
func (s *search) otherType(t replication.Table, o config.Outbox) error {
	return failure.Misconfigure(failure.Advise(
		fmt.Errorf("%q is no event ID: column %q of table %s is of another type", s.asked.id, o.Columns.ID, t.Outbox.Table),
		"give the value of ce_id; an aggregate ID, or another key, belongs after --key",
	))
}

// wanted says which rows of a table are looked for.
type wanted struct {
	reference, value string
	most             int
}

// lookAtTable looks for rows in one table. It returns the value as the server
// prints it, empty if the table was not searched.
func (s *search) lookAtTable(ctx context.Context, t replication.Table, by wanted) (value string, err error) {
	o := s.cfg.Tables()[t.Outbox.Entry]
	switch {
	case !t.Exists:
		s.note("rows of table %s: it does not exist", t.Outbox.Table)
		return "", nil
	case by.reference == "":
		s.note("rows of table %s: its key %q is not one column, so give the event ID", t.Outbox.Table, o.Key)
		return "", nil
	}
	found, err := s.control.Lookup(ctx, t, replication.Lookup{
		Reference: by.reference, Value: by.value, Most: by.most, Timeout: s.timeout(),
	})
	switch {
	case errors.Is(err, replication.ErrUnfinished):
		s.slow[t.Outbox.Table] = true
		s.note("rows of table %s: %s, and the search was given up after %s: %s",
			t.Outbox.Table, withoutIndex(found, by.reference), s.command.Timeout, "create one, or use --scan")
		return "", nil
	case errors.Is(err, replication.ErrOtherType):
		return "", err
	case err != nil && ctx.Err() == nil:
		s.note("rows of table %s: %s", t.Outbox.Table, failure.Describe(err))
		return "", nil
	case err != nil:
		return "", err
	}
	s.more = s.more || found.More
	for _, row := range found.Rows {
		s.addRow(t, by.value, row)
	}
	return found.Value, nil
}

func withoutIndex(found replication.Found, reference string) string {
	if found.Indexed {
		return fmt.Sprintf("although it has an index on %s, it is slow", reference)
	}
	return "it has no index on " + reference
}

// keyColumn is where the key of records is in the table, empty if it is not in
// one place.
func keyColumn(o config.Outbox) string {
	if o.Columns.PartitionKey != "" {
		return o.Columns.PartitionKey
	}
	if o.Key == "{aggregate_id}" {
		return o.Columns.AggregateID
	}
	return ""
}

// addRow adds a row, as it would be published. named is what it was found by.
func (s *search) addRow(t replication.Table, named string, stored replication.StoredRow) {
	d := decoder.New(site.Mappings(s.cfg)...)
	columns := make([]decoder.Column, len(stored.Columns))
	for i, c := range stored.Columns {
		columns[i] = decoder.Column{Name: c.Name, TypeOID: c.TypeOID, Null: c.Text == nil, Bytes: c.Text}
	}
	schema, name := config.SplitTable(t.Outbox.Table)
	row := &Row{Table: t.Outbox.Table, WrittenAt: stored.Written}
	restored, err := d.Restore(t.Outbox.Entry, decoder.NamesOf(schema, name), replication.Position{}, 0, columns)
	id := string(restored.Attribute(decoder.ID))
	if poison, ok := errors.AsType[*decoder.PoisonError](err); ok {
		row.Problem = router.Reason(poison)
		id = cmp.Or(poison.EventID, id)
	}
	e := s.event(cmp.Or(id, named), string(s.routes.Source(restored)))
	e.Row = row
	if restored.Time != 0 {
		row.Time = time.UnixMicro(restored.Time).UTC()
	}
	if row.Problem != "" {
		return
	}
	shown, err := s.routes.Preview(restored, func(string) (int, error) { return 0, nil })
	if err != nil {
		row.Problem = router.Reason(err)
		return
	}
	row.Topic, e.Type, e.key = shown.Topic, shown.Type, keyOf(shown)
}

// keyOf is the key that a record would have.
func keyOf(r router.Rendering) []byte {
	if r.Key != nil {
		return []byte(*r.Key)
	}
	return r.KeyBase64
}
