package console

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAbout(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 3*time.Hour + 59*time.Minute: "3 h 59 min",
		49 * time.Hour: "2 d 1 h", 101 * 24 * time.Hour: "more than 100 days",
	} {
		assert.Equal(t, want, About(d))
	}
}
