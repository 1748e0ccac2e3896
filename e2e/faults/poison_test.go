package faults

import (
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ = register(
	fault{
		name: "row without aggregate ID", group: processGroup, fast: true, expect: refuses,
		what:   "a row arrives that can never be an event; the poison policy is stop",
		says:   []string{`outbox row "[-0-9a-f]{36}" at ` + position, `column "aggregateid"`},
		strike: func(r *run) { r.poisonRow() },
	},
	fault{
		name: "dead letters", group: processGroup,
		what:     "rows arrive that can never be events, the poison policy is dead-letter, and the streamer is killed meanwhile",
		settings: map[string]string{"poison.policy": "dead-letter"},
		prepare:  func(r *run) { r.set("poison.topic", r.deadLetters()) },
		times:    strikes(20),
		strike: func(r *run) {
			for range 1 + r.random.IntN(5) {
				r.poisonRow()
				r.moment(0, 50)
			}
			r.killStreamer()
		},
		judge: (*run).judgeDeadLetters,
	},
)

func (r *run) deadLetters() string { return r.prefix + "-letters" }

// poisonRow commits a row that is not in the writers' journal.
func (r *run) poisonRow() {
	r.t.Helper()
	id := uuid.NewString()
	r.exec("insert into outbox values ($1, 'order', ' ', 'placed', '{}')", id)
	r.poisoned = append(r.poisoned, id)
}

// judgeDeadLetters requires each poison row among the dead letters, once, and
// no damage to the other rows.
func (r *run) judgeDeadLetters(found findings) {
	r.t.Helper()
	assert.Zero(r.t, found)
	messages, err := r.kafka.Consume(r.ctx, r.deadLetters())
	require.NoError(r.t, err)
	var letters []string
	for _, m := range messages {
		for _, h := range m.Headers {
			if string(h.Key) == "streamer-event-id" {
				letters = append(letters, string(h.Value))
			}
		}
	}
	assert.ElementsMatch(r.t, r.poisoned, letters)
}
