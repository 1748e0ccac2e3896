package status

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
)

func TestCountTransactions(t *testing.T) {
	t.Parallel()
	known := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		lag, next, stored int64
		want              *int64
	}{
		"behind":              {100, 70, 50, known(20)},
		"nothing is waiting":  {0, 70, 50, known(0)},
		"not stored":          {100, 70, 0, nil},
		"at the end":          {0, 70, 0, known(0)},
		"another server's ID": {100, 70, 90, known(0)},
	} {
		s := Slot{Lag: c.lag, nextTransaction: c.next}
		s.countTransactions(checkpoint.Record{NextTransaction: c.stored})
		assert.Equal(t, c.want, s.LagTransactions, name)
	}
}
