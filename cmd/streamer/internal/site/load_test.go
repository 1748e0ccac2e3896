package site

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The limit is the process's, so this test runs alone.
func TestLimitMemory(t *testing.T) { //nolint:paralleltest // see above
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	cfg := configured(t, "kafka.max_in_flight_bytes=16MiB")
	debug.SetMemoryLimit(math.MaxInt64)
	LimitMemory(cfg, 64<<20)
	assert.EqualValues(t, 80<<20, debug.SetMemoryLimit(-1))
	debug.SetMemoryLimit(1 << 30)
	LimitMemory(cfg, 64<<20)
	assert.EqualValues(t, 1<<30, debug.SetMemoryLimit(-1), "GOMEMLIMIT sets it")
}
