package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTimeLimitsRefuse(t *testing.T) {
	t.Parallel()
	narrow := TimeLimits{limitBefore: 60_000, limitAfter: 10_000}
	usual := TimeLimits{limitBefore: 1<<63 - 1, limitAfter: 3_600_000}
	for name, test := range map[string]struct {
		limits TimeLimits
		age    time.Duration
		want   string // the setting, empty if none refuses
	}{
		"old enough":              {narrow, time.Minute, ""},
		"too old":                 {narrow, time.Minute + time.Millisecond, limitBefore},
		"soon":                    {narrow, -10 * time.Second, ""},
		"too soon":                {narrow, -11 * time.Second, limitAfter},
		"old, without a limit":    {usual, 1000 * time.Hour, ""},
		"an hour ahead":           {usual, -61 * time.Minute, limitAfter},
		"an older broker":         {TimeLimits{limitBoth: 1000}, time.Minute, limitBoth},
		"an older broker, ahead":  {TimeLimits{limitBoth: 1000}, -time.Minute, limitBoth},
		"nothing is known":        {nil, 1000 * time.Hour, ""},
		"nothing is known, ahead": {nil, -1000 * time.Hour, ""},
	} {
		limit, refuses := test.limits.Refuses(test.age)
		assert.Equal(t, test.want != "", refuses, name)
		if refuses {
			assert.Equal(t, test.want, limit.Name, name)
		}
	}
}
