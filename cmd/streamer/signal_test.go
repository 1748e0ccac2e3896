package main

import (
	"context"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// TestSignalEnds is not parallel: a signal reaches every command in this
// process.
func TestSignalEnds(t *testing.T) {
	topic := kafkatest.Shared(t).NewTopic(t, 1, nil)
	produce(t, topic, record{"a", "T", "{}", time.Now()})
	r := newSlot(t, true)
	for name, arguments := range map[string][]string{
		"tail":           {"tail", topic, "--from", "beginning"},
		"status --watch": {"status", "--watch"},
	} {
		t.Run(name, func(t *testing.T) {
			printed, hasPrinted := context.WithTimeout(t.Context(), 30*time.Second)
			code := make(chan int, 1)
			go func() {
				code <- run(arguments, environment{stdout: onWrite(hasPrinted), stderr: io.Discard, environ: r.environ})
			}()
			<-printed.Done()
			require.ErrorIs(t, printed.Err(), context.Canceled, "nothing was printed")
			require.NoError(t, syscall.Kill(syscall.Getpid(), syscall.SIGINT))
			assert.Zero(t, <-code)
		})
	}
}

// onWrite is called at each write.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}
