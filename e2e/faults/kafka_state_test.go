package faults

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// killNow kills the streamer without looking at Kafka, which may not answer at
// the moment.
func (r *run) killNow() {
	r.streamer.kill()
	r.result.Kills++
}

// killMeanwhile kills the streamer at a random moment of what the caller does
// next. The returned function waits for the kill.
func (r *run) killMeanwhile() (wait func()) {
	after := time.Duration(r.random.IntN(800)) * time.Millisecond
	var killed sync.WaitGroup
	killed.Go(func() {
		pause(r.ctx, after)
		r.streamer.kill()
	})
	return func() {
		killed.Wait()
		r.result.Kills++
	}
}

// freezeStreamer stops the streamer with SIGSTOP and waits until it has
// stopped.
func (r *run) freezeStreamer() {
	r.t.Helper()
	r.streamer.signal(syscall.SIGSTOP)
	r.until("the streamer is frozen", r.streamer.frozen)
}

// holdWriters lets nothing be committed until the returned function is called.
// Every writer waits for its lock. Writers give up after 30 s and try again.
func (r *run) holdWriters() (resume func()) {
	r.t.Helper()
	conn := r.open()
	_, err := conn.Exec(r.ctx, "begin; lock table aggregate in exclusive mode")
	require.NoError(r.t, err)
	return func() { _ = conn.Close(r.ctx) } // ends the transaction
}

// publishOne commits one event while the writers are held, and waits until the
// event is in Kafka.
func (r *run) publishOne() {
	r.t.Helper()
	const payload = `{"seq": 1}`
	t := &transaction{token: uuid.NewString()}
	e := &event{aggregate: "order/single", seq: 1, kind: "com.example.order.single", sum: sha256.Sum256([]byte(payload)), transaction: t}
	id := uuid.NewString()
	r.load.journal.note(id, e)
	conn := r.open()
	defer conn.Close(r.ctx)
	_, err := conn.Exec(r.ctx, fmt.Sprintf(`begin; insert into commits values ('%s');
		insert into outbox values ('%s', 'order', '%s', '%s', '%s'); commit`, t.token, id, e.aggregate, e.kind, payload))
	require.NoError(r.t, err)
	r.load.journal.settle(t, committed, r.endOfLog())
	r.until("the event is published", func() bool { return r.audit.follow(r.ctx) == nil && r.audit.has(id) })
}

// has reports whether an event has been seen in Kafka.
func (a *audit) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.seen[id]
	return there
}

// awaitConfirmation waits until what is committed now is published, stored and
// confirmed to PostgreSQL.
func (r *run) awaitConfirmation() {
	r.t.Helper()
	end := r.endOfLog()
	r.until("everything up to "+end.String()+" is confirmed", func() bool { return r.confirmedUpTo(end) })
}

// endOfLog returns the current end of the WAL.
func (r *run) endOfLog() (end lsn) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	require.NoError(r.t, conn.QueryRow(r.ctx, "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn").Scan(&end))
	return end
}

func (r *run) confirmedUpTo(end lsn) bool {
	position, err := r.confirmedPosition(r.ctx)
	return err == nil && position >= end
}

// frozen reports whether the process has stopped.
func (s *streamer) frozen() bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid()))
	return err != nil || strings.Contains(string(status), "State:\tT")
}

// thaw lets a frozen process continue.
func (s *streamer) thaw() { s.signal(syscall.SIGCONT) }
