package doctor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMeasure(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]struct {
		depth int
		long  bool
	}{
		`1`:                               {0, false},
		`{"a": [1, {"b": "[[[{"}]}`:       {3, false},
		`["\\"", "\"[", []]`:              {2, false},
		`[9007199254740992]`:              {1, false},
		`[9007199254740993]`:              {1, true},
		`[-9007199254740993]`:             {1, true},
		`["9007199254740993"]`:            {1, false},
		`[12345678901234567890]`:          {1, true},
		`[100000000000000000000]`:         {1, false},
		`[0.1, 1e400, 1.5E-7]`:            {1, false},
		`[1234567890.1234567, 1]`:         {1, true},
		`[0.000000000000000000001234567]`: {1, false},
	} {
		depth, long := measure([]byte(document))
		assert.Equal(t, want.depth, depth, document)
		assert.Equal(t, want.long, long, document)
	}
}

// In structured mode SDKs parse the payload. In binary mode it is the consumer's.
func TestRowsThatSDKsCannotRead(t *testing.T) {
	t.Parallel()
	const what = "waiting rows"
	r := newRig(t)
	insert := func(id, payload string) {
		r.exec(`insert into outbox (id, aggregatetype, aggregateid, type, payload) values ($1, 'order', 'a', 't', $2)`, id, payload)
	}
	insert("flat", strings.Repeat("[", 63)+strings.Repeat("]", 63))
	insert("exact", "9007199254740992")
	r.examine("cloudevents.mode=structured").says(Fine, what, "2 ")
	insert("deep", strings.Repeat("[", 64)+strings.Repeat("]", 64))
	insert("long", "9007199254740993")
	e := r.examine("cloudevents.mode=structured")
	e.says(Warned, what, `row "deep"`, "nested 65 deep", "no more than 64", "mode binary")
	e.says(Warned, what, `row "long"`, "digits", "a string")
	assert.Zero(t, e.Failures)
	r.examine("cloudevents.mode=binary").says(Fine, what, "4 ")
}
