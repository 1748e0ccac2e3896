package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/outboxstream/streamer/checkpoint"
)

func TestForgotten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before      checkpoint.Producer
		atLeastOnce string
		generation  int
		id          int64
		want        bool
	}{
		"the same":                {before: checkpoint.Producer{ID: 7, Epoch: 3}, id: 7},
		"another":                 {before: checkpoint.Producer{ID: 7, Epoch: 3}, id: 8, want: true},
		"the first of a cluster":  {before: checkpoint.Producer{}, id: 0},
		"another after the first": {before: checkpoint.Producer{}, id: 1, want: true},
		"another generation":      {before: checkpoint.Producer{ID: 7}, generation: 1, id: 8},
		"none was kept out":       {before: checkpoint.Producer{ID: 7}, atLeastOnce: "not allowed", id: 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := checkpoint.Record{Producer: test.before, AtLeastOnce: test.atLeastOnce}
			assert.Equal(t, test.want, forgotten(stored, test.generation, test.id))
		})
	}
}
