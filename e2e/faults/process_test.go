package faults

import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// idleSession is how long the server lets a frozen holder of the lock live.
const idleSession = 15 * time.Second

var _ = register(
	fault{
		name: "SIGKILL", group: processGroup, fast: true,
		what:   "the streamer is killed at random moments, also while it starts",
		times:  kills,
		strike: (*run).killStreamer,
	},
	fault{
		name: "SIGTERM", group: processGroup,
		what:   "the streamer is stopped cleanly at random moments and started again",
		times:  strikes(20),
		strike: (*run).stopStreamer,
	},
	fault{
		name: "frozen", group: processGroup,
		what:  "the streamer's process is frozen (SIGSTOP) for longer than every timeout, then goes on; no other instance takes over",
		times: strikes(2), recover: true,
		settings: map[string]string{"postgres.wal_sender_timeout": "2s"},
		strike:   func(r *run) { r.streamer.signal(syscall.SIGSTOP) },
		hold:     func(r *run) { r.moment(20_000, 25_000) },
		heal:     func(r *run) { r.streamer.signal(syscall.SIGCONT) },
	},
	fault{
		name: "frozen shortly", group: processGroup,
		what:  "the streamer's process is frozen for about wal_sender_timeout, again and again",
		times: strikes(8),
		settings: map[string]string{
			"postgres.wal_sender_timeout": "1s", "postgres.status_interval": "400ms",
		},
		strike: func(r *run) { r.streamer.signal(syscall.SIGSTOP) },
		hold:   func(r *run) { r.moment(500, 2500) },
		heal: func(r *run) {
			r.streamer.signal(syscall.SIGCONT)
			r.moment(100, 900)
		},
	},
	fault{
		name: "zombie", group: processGroup,
		what:     "the streamer's process is frozen, a standby instance takes over, the frozen one wakes up",
		times:    strikes(2),
		settings: map[string]string{"postgres.wal_sender_timeout": "2s"},
		prepare:  func(r *run) { r.second() },
		strike:   (*run).zombie,
	},
	fault{
		name: "standby", group: processGroup, fast: true,
		what:    "two instances run; the one that streams is killed, and the other takes over",
		times:   strikes(10),
		prepare: func(r *run) { r.second() },
		strike:  (*run).killHolder,
	},
	fault{
		name: "started at once", group: processGroup,
		what:    "two instances are started at the same moment",
		times:   strikes(6),
		prepare: func(r *run) { r.second() },
		strike: func(r *run) {
			for _, s := range r.instances() {
				s.end(syscall.SIGTERM)
			}
			for _, s := range r.instances() {
				s.start()
			}
			r.progress()
		},
	},
	fault{
		name: "open transaction", group: processGroup, fast: true,
		what:   "a transaction stays open while others are published and confirmed and the streamer is killed, then it commits",
		times:  strikes(5),
		strike: (*run).openAcrossKill,
	},
	fault{
		name: "huge transaction", group: processGroup,
		what:   "the streamer is killed several times near the end of a transaction of 300,000 rows",
		strike: (*run).killInHuge, patience: 4 * time.Minute,
	},
	fault{
		name: "boot clock", group: processGroup,
		what:  "the streamer is killed and finds a boot-time clock days ahead or behind, as after a reboot or a move to another machine",
		times: strikes(6), recover: true,
		prepare: func(r *run) { requireTimeNamespace(r) },
		strike: func(r *run) {
			days := r.random.IntN(30)
			r.streamer.wrap("unshare", "--time", "--boottime", strconv.Itoa(days*86400), "--monotonic", strconv.Itoa(days*86400))
			r.streamer.kill()
			r.result.Kills++
		},
	},
)

// killStreamer kills the streamer, sometimes before it is ready. It checks at
// once whether what PostgreSQL was told to forget is in Kafka.
func (r *run) killStreamer() {
	if r.random.IntN(4) == 0 {
		r.moment(0, 150)
	} else {
		r.moment(100, 1500)
	}
	r.streamer.kill()
	r.result.Kills++
	if err := r.look(r.ctx); err != nil {
		r.t.Errorf("look at Kafka after the kill: %v", err)
	}
	const checked = 100 // kills between two checks of everything
	if r.result.Kills%checked == 0 {
		found, examples := r.audit.soFar()
		require.Zero(r.t, found, "after %d kills: %s", r.result.Kills, strings.Join(examples, "\n"))
		r.t.Logf("%d kills, %d events published", r.result.Kills, r.audit.size())
	}
}

func (r *run) stopStreamer() {
	r.moment(0, 800)
	assert.Equal(r.t, exitFine, r.streamer.end(syscall.SIGTERM), "exit code of a graceful stop")
	r.streamer.start()
}

// zombie freezes the instance that streams, waits until the other has taken
// over and published, and wakes the first.
func (r *run) zombie() {
	holder := r.holder()
	holder.signal(syscall.SIGSTOP)
	began := time.Now()
	r.until("the other instance has taken over", func() bool { return r.other(holder).streams() })
	r.t.Logf("taken over after %s; the server ends the frozen holder's session after %s",
		time.Since(began).Round(time.Millisecond), idleSession)
	r.progress()
	holder.signal(syscall.SIGCONT)
	r.progress()
	r.until("the woken instance knows its place", func() bool { return holder.running() && !holder.streams() })
}

// killHolder kills the instance that streams.
func (r *run) killHolder() {
	holder := r.holder()
	r.moment(0, 800)
	holder.kill()
	r.result.Kills++
	r.progress()
}

// killInHuge commits 300,000 rows in one transaction and kills the streamer
// each time it has published most of them.
func (r *run) killInHuge() {
	const rows, kills = 300_000, 5
	before := r.audit.size()
	r.insertMany("huge", rows, func() {})
	for i := range kills {
		near := before + rows*(80+4*i)/100
		r.published(near)
		r.streamer.kill()
		r.result.Kills++
	}
	r.result.Injections += kills - 1
}

// openAcrossKill leaves a transaction open while others are published and
// confirmed and the streamer is killed. Its rows are below the confirmed
// position, and arrive when it commits.
func (r *run) openAcrossKill() {
	const rows = 40
	r.insertMany(fmt.Sprint("open-", r.result.Injections), rows, func() {
		r.progress()
		r.awaitConfirmation()
		r.streamer.kill()
		r.result.Kills++
		r.progress()
	})
}

// insertMany commits one transaction of n rows over four aggregates of this
// name.
func (r *run) insertMany(name string, n int, beforeCommit func()) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	t := &transaction{token: uuid.NewString()}
	tx, err := conn.Begin(r.ctx)
	require.NoError(r.t, err)
	_, err = tx.Exec(r.ctx, "insert into commits values ($1)", t.token)
	require.NoError(r.t, err)
	_, err = tx.CopyFrom(r.ctx, pgx.Identifier{"outbox"}, []string{"id", "aggregatetype", "aggregateid", "type", "payload"},
		pgx.CopyFromSlice(n, func(i int) ([]any, error) {
			e := &event{aggregate: fmt.Sprintf("order/%s-%d", name, i%4), seq: int64(i/4 + 1), kind: "com.example.order.imported", transaction: t}
			payload := fmt.Sprintf(`{"row": %d}`, i)
			e.sum = sha256.Sum256([]byte(payload))
			id := uuid.New()
			r.load.journal.note(id.String(), e)
			return []any{id, "order", e.aggregate, e.kind, payload}, nil
		}))
	require.NoError(r.t, err)
	beforeCommit()
	require.NoError(r.t, tx.Commit(r.ctx))
	r.load.journal.settle(t, committed, 0)
}

// second adds an instance on the same slot. It starts together with the first.
func (r *run) second() { r.extra = append(r.extra, r.newStreamer("b")) }

// instances returns all streamers of the run.
func (r *run) instances() []*streamer { return append([]*streamer{r.streamer}, r.extra...) }

// holder waits until one instance streams, and returns it.
func (r *run) holder() (holder *streamer) {
	r.t.Helper()
	r.until("an instance streams", func() bool {
		for _, s := range r.instances() {
			if s.running() && s.streams() {
				holder = s
				return true
			}
		}
		return false
	})
	return holder
}

func (r *run) other(than *streamer) *streamer {
	for _, s := range r.instances() {
		if s != than {
			return s
		}
	}
	return than
}

// requireTimeNamespace skips the run where the boot-time clock of a process
// cannot be moved. Moving it needs Linux and privileges.
func requireTimeNamespace(r *run) {
	r.t.Helper()
	if output, err := exec.CommandContext(r.ctx, "unshare", "--time", "--boottime", "1", "true").CombinedOutput(); err != nil {
		r.unplayable("needs a time namespace, which this user may not make: %v: %s", err, output)
	}
}
