package faults

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/proxytest"
)

var _ = register(
	between("file"), between("kafka"),
)

// between is the fault of a streamer that is stopped while it has no connection
// to PostgreSQL. No instance reads what it still has to finish.
func between(store string) fault {
	settings, suffix := stored(store)
	return fault{
		name: "SIGTERM between two sessions" + suffix, group: processGroup, kafka: behindProxies(1),
		what: "PostgreSQL cannot be reached, and the streamer is stopped while it waits to try again: " +
			"with everything published, with Kafka silent until after the deadline, " +
			"and with Kafka silent until just before",
		settings: settings,
		prepare: func(r *run) {
			r.throughProxies()
			r.behindProxy()
		},
		times:  func() int { return 3 },
		strike: (*run).stopBetween,
	}
}

// stopBetween stops the streamer while it has no connection, and checks whether
// its exit code is true.
func (r *run) stopBetween() {
	r.t.Helper()
	silent, late := r.result.Injections%3 == 1, r.result.Injections%3 == 2
	if silent || late {
		r.proxied((*proxytest.Proxy).Stall)
		r.until("events are in flight", func() bool { return r.inFlight() > 0 })
	}
	r.moment(0, 300)
	before := len(r.streamer.log())
	r.proxy.Refuse()
	r.until("the streamer waits between two sessions", func() bool {
		return strings.Contains(r.streamer.log()[before:], "session ended, starting again")
	})
	inFlight := r.inFlight()
	if late {
		go func() {
			pause(r.ctx, time.Second)
			r.clear()
		}()
	}
	began := time.Now()
	code := r.streamer.end(syscall.SIGTERM)
	r.t.Logf("exit code %d after %s, with %d events in flight", code, time.Since(began).Round(time.Millisecond), inFlight)
	assert.Less(r.t, time.Since(began), stopWithin, "SIGTERM between two sessions")
	if silent {
		assert.Positive(r.t, inFlight, "events in flight")
		assert.Equal(r.t, exitInFlight, code, "exit code of SIGTERM with events in flight")
		assert.Regexp(r.t, `with \d+ events in flight|last checkpoint`, lastWords(r.streamer.log()))
	} else {
		assert.Equal(r.t, exitFine, code, "exit code of SIGTERM when everything can be acknowledged")
	}
	r.clear()
	r.proxy.Clear()
	r.requireStored(code)
	r.streamer.start()
	r.progress()
}

// inFlight returns the number of events in flight, as the streamer reports it,
// or 0 if the streamer does not report it.
func (r *run) inFlight() int {
	const name = "\nstreamer_in_flight_events "
	_, body := r.streamer.get("/metrics")
	_, after, _ := strings.Cut(body, name)
	value, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseFloat(cmp.Or(value, "0"), 64)
	require.NoError(r.t, err)
	return int(n)
}

// requireStored compares the stored checkpoint with Kafka. Everything below the
// checkpoint must be in Kafka. After exit code 0 nothing above it may be there,
// except the part of one transaction that a connection may have delivered
// before it ended.
func (r *run) requireStored(code int) {
	r.t.Helper()
	output, failed := r.command("checkpoint", "show", "--json")
	require.Zero(r.t, failed, output)
	var shown struct {
		LSN string `json:"lsn"`
	}
	require.NoError(r.t, json.Unmarshal([]byte(output), &shown), output)
	stored := parseLSN(r, shown.LSN)
	require.NoError(r.t, r.audit.confirmed(r.ctx, stored))
	if code != exitFine {
		return
	}
	above := map[string]bool{}
	r.readAgain(func(one record) {
		transaction, _, _ := strings.Cut(one.header("ce_sequence"), "-")
		if transaction >= fmt.Sprintf("%016x", uint64(stored)) {
			above[transaction] = true
		}
	})
	assert.LessOrEqual(r.t, len(above), 1, "transactions that are published and not below the checkpoint %s: %v", stored, above)
}

// parseLSN reads a position as PostgreSQL writes it.
func parseLSN(r *run, text string) lsn {
	r.t.Helper()
	high, low, ok := strings.Cut(text, "/")
	require.True(r.t, ok, text)
	h, err := strconv.ParseUint(high, 16, 32)
	require.NoError(r.t, err, text)
	l, err := strconv.ParseUint(low, 16, 32)
	require.NoError(r.t, err, text)
	return lsn(h<<32 | l)
}
