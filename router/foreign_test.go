package router

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/router/kafka"
)

func TestReadForeign(t *testing.T) {
	t.Parallel()
	headers := func(pairs ...string) (all []kafka.LogHeader) {
		for pair := range slices.Chunk(pairs, 2) {
			all = append(all, kafka.LogHeader{Key: []byte(pair[0]), Value: []byte(pair[1])})
		}
		return all
	}
	for name, c := range map[string]struct {
		headers  []kafka.LogHeader
		header   string
		id       string // empty: not foreign
		source   string
		debezium bool
	}{
		"Debezium":                {headers: headers("id", "a", "__debezium.context.taskId", "0"), id: "a", debezium: true},
		"Debezium, quoted":        {headers: headers("id", `"a"`), id: "a", debezium: true},
		"CloudEvents":             {headers: headers("ce_id", "a", "ce_source", "/shop", "id", "b"), id: "a", source: "/shop"},
		"a header of its own":     {headers: headers("event", "c", "ce_id", "a", "ce_source", "/shop"), header: "event", id: "c"},
		"a streamer":              {headers: headers("ce_id", "a", "id", "a", "streamer-stream", "1")},
		"a dead letter":           {headers: headers("id", "a", "streamer-dead-letter", "route")},
		"without an ID":           {headers: headers("type", "x")},
		"without headers":         {},
		"another header is asked": {headers: headers("other", "a"), header: "event"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, foreign := ReadForeign(c.headers, c.header)
			assert.Equal(t, c.id != "", foreign)
			if foreign {
				assert.Equal(t, c.id, string(e.ID))
				assert.Equal(t, c.source, string(e.Source))
				assert.Equal(t, c.debezium, e.Debezium)
			}
		})
	}
}

// foreignEvents returns events as ForeignLog.Read does.
func foreignEvents(ids ...string) *Foreign {
	f := &Foreign{Until: commitOf(15), Holes: map[string]struct{}{}}
	for _, id := range ids {
		f.events = append(f.events, DigestOf([]byte(id), nil))
	}
	slices.SortFunc(f.events, Digest.Compare)
	return f
}

// What another program has published is not published again, as long as it can
// have published it. What it has left out is marked, or left out for good.
func TestForeignEventsArePassedOver(t *testing.T) {
	t.Parallel()
	for name, leaveOut := range map[string]bool{"holes are published": false, "holes stay": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				config := someConfig()
				config.Foreign = foreignEvents("event-3", "event-5", "event-20")
				config.Foreign.Holes["event-4"], config.Foreign.LeaveOut = struct{}{}, leaveOut
				config.Foreign.events = append(config.Foreign.events,
					DigestOf([]byte("event-6"), []byte("/shop/other")), DigestOf([]byte("event-7"), []byte("/shop/outbox")))
				slices.SortFunc(config.Foreign.events, Digest.Compare)
				assert.Equal(t, 5, config.Foreign.Events())
				r := newRig(t, newOrders(1, 3), config)
				skipped := map[string]bool{}
				for n := range 25 {
					e := numbered(n, "order", "key")
					result, err := r.append(e)
					require.NoError(t, err)
					skipped[string(e.Attribute(decoder.ID))] = result == Skipped
				}
				require.NoError(t, r.settle())
				for id, want := range map[string]bool{
					"event-2": false, "event-3": true, "event-4": leaveOut, "event-5": true, "event-6": false, "event-7": true, "event-20": false,
				} {
					assert.Equal(t, want, skipped[id], id)
				}
				for _, p := range r.model.Topics[orders].Partitions {
					for _, record := range p.Log {
						assert.Equal(t, record.EventID() == "event-4", record.Header("ce_replay") == "take-over", record.EventID())
						assert.Empty(t, record.Header("streamer-replay"))
					}
				}
			})
		})
	}
}
