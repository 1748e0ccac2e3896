package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rows that can never be published go to the dead letters unchanged, once each,
// whatever is killed in the meantime. All other rows keep their order.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	r := newTightTopic(t, "kafka")
	const letters = "poison.topic="
	deadLetters := r.prefix + "-letters"
	r.lines = append(r.lines, letters+deadLetters, "poison.policy=dead-letter")
	const (
		rows  = 400
		keys  = 7
		every = 25
	)
	poison := map[string]string{} // payload's n → class
	load := func() {
		for n := range rows {
			key := fmt.Sprintf("o%d", n%keys)
			payload := fmt.Sprintf(`{"n": %d}`, n)
			aggregateType, aggregateID := "'order'", "'"+key+"'"
			if n%every == 7 {
				class := []string{"too_large", "invalid_row", "unroutable", "invalid_row"}[n/every%4]
				poison[strconv.Itoa(n)] = class
				switch n / every % 4 {
				case 0:
					payload = fmt.Sprintf(`{"n": %d, "s": "%08000d"}`, n, 0)
				case 1:
					aggregateType = "NULL"
				case 2:
					aggregateType = "'no/topic'"
				case 3:
					aggregateID = "''"
				}
			}
			_, err := r.db.Exec(t.Context(), "insert into outbox "+
				"(aggregatetype, aggregateid, type, payload) values ("+aggregateType+", "+aggregateID+", 't', $1::jsonb)", payload)
			require.NoError(t, err)
		}
	}
	p := r.start()
	for range 3 {
		load()
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond) // any moment will do
		p.kill()
		p = r.start()
	}
	r.ready(p)
	r.confirmed(p)
	p.logged("dead letters")

	messages, err := r.kafka.Consume(t.Context(), deadLetters)
	require.NoError(t, err)
	found := map[string]int{}
	for _, m := range messages {
		var payload struct{ N json.Number }
		require.NoError(t, json.Unmarshal(m.Value, &payload))
		assert.Equal(t, poison[payload.N.String()], header(m, "streamer-dead-letter"), payload.N)
		assert.NotEmpty(t, header(m, "streamer-reason"))
		assert.NotEmpty(t, header(m, "streamer-event-id"))
		assert.Equal(t, "t", header(m, "streamer-column-type"))
		found[payload.N.String()]++
	}
	assert.Len(t, found, len(poison))
	for n, count := range found {
		assert.Equal(t, 3, count, "row %s of three loads", n)
	}
	var want []int
	for n := range rows {
		if _, bad := poison[strconv.Itoa(n)]; !bad {
			want = append(want, n)
		}
	}
	published := byKey(t, r.records("order"))
	for k := range keys {
		var numbers []int
		for range 3 {
			for _, n := range want {
				if n%keys == k {
					numbers = append(numbers, n)
				}
			}
		}
		assert.Equal(t, numbers, published[fmt.Sprintf("o%d", k)], "all of key %d, in order, each once per load", k)
	}
	assert.Equal(t, 0, p.stop())
	p.discreet()
}

// A dead letter that the dead letter topic does not accept either ends the
// process: there is no place left for the row.
func TestDeadLetterTooLarge(t *testing.T) {
	t.Parallel()
	r := newTightTopic(t, "kafka")
	deadLetters := r.prefix + "-letters"
	require.NoError(t, r.kafka.CreateTopic(t.Context(), deadLetters, 1, map[string]string{"max.message.bytes": "4000"}))
	r.lines = append(r.lines, "poison.topic="+deadLetters, "poison.policy=dead-letter")
	r.numbered("o1", 1)
	r.numbered("o1", 2)
	r.tooLarge()
	r.numbered("o1", 4)
	for range 2 {
		r.start().refused(exitRefused, tooLargeID, deadLetters, "max.message.bytes")
		assert.Equal(t, map[string][]int{"o1": {1, 2}}, byKey(t, r.records("order")))
	}
}
