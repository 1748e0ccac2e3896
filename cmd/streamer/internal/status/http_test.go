package status

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReachable(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		":9180": "127.0.0.1:9180", "0.0.0.0:9180": "127.0.0.1:9180", "[::]:9180": "[::1]:9180",
		"127.0.0.1:1": "127.0.0.1:1", "[fe80::1]:2": "[fe80::1]:2", "host:3": "host:3",
	} {
		assert.Equal(t, want, reachable(listen), listen)
	}
}
