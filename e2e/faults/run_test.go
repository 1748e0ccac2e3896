package faults

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/proxytest"
	"github.com/outboxstream/streamer/internal/testserver"
)

const (
	// patience bounds the way back to normal, on a slow and busy machine.
	patience = 90 * time.Second
	// drainTimeout is the streamer's deadline after SIGTERM.
	drainTimeout = 5 * time.Second
	// stopWithin is what SIGTERM may take: the deadline, the last checkpoint,
	// the end of the replication stream, and a busy machine.
	stopWithin = drainTimeout + 25*time.Second
	// warmUp is how many events must have been published before a fault
	// strikes.
	warmUp = 40
	// secretPassword is in the connection string and must not be in any log.
	secretPassword = "S3cr3t-of-the-database"
)

// run is one fault being played, with its own database, topics, streamer and
// writers.
type run struct {
	t      *testing.T
	fault  fault
	ctx    context.Context //nolint:containedctx // of the test, for the helpers
	seed   uint64
	random *rand.Rand // of the fault; not for concurrent use

	pg       *pgtest.Server
	kafka    *kafkatest.Cluster
	database string
	slot     string
	prefix   string // of its topics
	folder   string
	settings map[string]string // of the streamer
	streamer *streamer
	proxy    *proxytest.Proxy // between the streamer and PostgreSQL, if the fault has one
	line     *proxytest.Proxy // to the server of a standby or a checkpoint store, if that connection is to be cut
	attempts int              // attempts that the checkpoint store had seen before it refused
	standby  *pgtest.Server   // standby of the server, if the fault has one
	store    *pgtest.Server   // server of the checkpoints, if it is not pg
	disk     *disk            // file system that the fault fills
	extra    []*streamer      // further instances on the same slot
	load     *load
	audit    *audit

	mu      sync.Mutex
	primary string // DSN of the current database, for writers and checks
	source  string // DSN of the server that is streamed from; empty: the primary
	through string // what the streamer connects to

	result   matrix.Result
	samples  int      // successful reads of the confirmed position
	foreign  bool     // another party moves the slot: its position says nothing
	poisoned []string // event ids of rows that can never be events
	sampling sync.WaitGroup
	began    time.Time
}

// play plays a fault and judges the outcome.
func play(t *testing.T, f fault, version string, withStop bool) {
	t.Helper()
	if withStop {
		f.name += ", SIGTERM meanwhile"
	}
	r := newRun(t, f, version)
	if r == nil {
		return
	}
	for _, s := range r.instances() {
		s.start()
	}
	r.holder()
	stopWriters := r.startWriters()
	stopSampling := r.sample()
	r.published(warmUp)
	r.until("the confirmed position was looked at", r.looked)
	if withStop {
		r.playStop()
	} else {
		r.playStrikes()
	}
	refused := f.expect == refuses && !withStop && r.awaitRefusal()
	if refused && f.refused != nil {
		f.refused(r)
		refused = false
	}
	stopWriters()
	stopSampling()
	r.conclude(refused)
}

// newRun sets everything up but starts nothing that is the run's own. It
// returns nil if the fault does not apply to the version.
func newRun(t *testing.T, f fault, version string) *run {
	t.Helper()
	r := &run{t: t, fault: f, ctx: t.Context(), seed: newSeed(), folder: t.TempDir(), settings: map[string]string{}, began: time.Now()}
	r.random = rand.New(rand.NewPCG(r.seed, 0))
	t.Logf("seed %d (STREAMER_FAULTS_SEED)", r.seed)
	if f.since > 0 || f.until > 0 {
		major := sharedServer(t, version).Version() / 10000
		if major < f.since || f.until > 0 && major > f.until {
			t.Logf("does not apply to PostgreSQL %d", major)
			return nil
		}
	}
	r.pg = server(t, f, version)
	r.kafka = cluster(t, f)
	r.result = matrix.Result{
		Fault: f.name, What: f.what, Group: f.group, Brokers: len(r.kafka.Brokers()), Runs: 1, Seed: r.seed,
		PostgreSQL: fmt.Sprintf("%d.%d", r.pg.Version()/10000, r.pg.Version()%10000),
		Kafka:      os.Getenv("STREAMER_TEST_KAFKA_VERSION"),
	}
	t.Cleanup(r.record)
	r.setUp()
	return r
}

// newSeed returns STREAMER_FAULTS_SEED or a new seed.
func newSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("STREAMER_FAULTS_SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64()
}

// setUp creates database, publication and slot, and the streamer's settings.
func (r *run) setUp() {
	r.t.Helper()
	r.primary = r.pg.CreateDatabase(r.t)
	r.through = withPassword(r.t, r.primary)
	u, err := url.Parse(r.primary)
	require.NoError(r.t, err)
	r.database = strings.TrimPrefix(u.Path, "/")
	r.prefix = fmt.Sprintf("f%x", rand.Uint64())
	r.slot = "slot_" + r.prefix
	r.exec(schema)
	tables := "outbox"
	if r.fault.several {
		r.exec(otherTable)
		tables += `, other."Events"`
	}
	r.exec("create publication streamer for table " + tables + " with (publish = 'insert', publish_via_partition_root = true)")
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	topics := make([]string, len(aggregateTypes))
	for i, name := range aggregateTypes {
		topics[i] = r.topic(name)
	}
	r.audit = newAudit(nil, kafkatest.NewReader(r.kafka, topics...))
	r.t.Cleanup(func() { _ = r.audit.reader.Close() })
	replicas := strconv.Itoa(min(3, len(r.kafka.Brokers())))
	r.settings = map[string]string{
		"postgres.slot": r.slot, "kafka.brokers": strings.Join(r.kafka.Brokers(), ","),
		"kafka.topic": r.prefix + ".{aggregate_type}", "kafka.topics.create": "true",
		"kafka.topics.partitions": "3", "kafka.topics.replication_factor": replicas,
		"checkpoint.kafka.topic": "checkpoints-" + r.prefix, "checkpoint.kafka.replication_factor": replicas,
		"checkpoint.file.path": r.folder + "/checkpoint", "log.format": "text",
		"retry.initial": "50ms", "retry.max": "500ms",
		"replication.reader":     testserver.Reader(),
		"shutdown.drain_timeout": drainTimeout.String(),
	}
	maps.Copy(r.settings, r.fault.settings)
	r.streamer = r.newStreamer("a")
	if r.fault.prepare != nil {
		r.fault.prepare(r)
	}
}

// topic returns the topic of an aggregate type.
func (r *run) topic(aggregateType string) string { return r.prefix + "." + aggregateType }

// set changes a setting of the streamer, for its next start.
func (r *run) set(key, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settings[key] = value
}

// connect makes the streamer connect to another DSN from its next start on.
func (r *run) connect(dsn string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.through = dsn
}

// arguments returns those of a command of the streamer.
func (r *run) arguments(command ...string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	arguments := slices.Concat(command, []string{"--set", "postgres.dsn=" + r.through})
	for _, key := range slices.Sorted(maps.Keys(r.settings)) {
		arguments = append(arguments, "--set", key+"="+r.settings[key])
	}
	return arguments
}

// command runs another command of the streamer and returns its output and exit
// code.
func (r *run) command(command ...string) (output string, code int) {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, binary, r.arguments(command...)...)
	cmd.Dir, cmd.Env = r.folder, environment()
	text, _ := cmd.CombinedOutput() // the exit code says how it ended
	return string(text), cmd.ProcessState.ExitCode()
}

// dsn returns the DSN of the current database.
func (r *run) dsn() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.primary
}

// reading returns the DSN of the database with the slot.
func (r *run) reading() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.source, r.primary)
}

// moveTo makes writers and checks use another server.
func (r *run) moveTo(dsn string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.primary, r.source = dsn, ""
}

// startWriters starts the load. The returned function ends it and finds out how
// each transaction ended. That function may be called again.
func (r *run) startWriters() (stop func()) {
	if r.audit.journal == nil {
		r.audit.journal = newJournal()
	}
	r.load = startLoad(r.ctx, r.dsn, r.seed, r.audit.journal, r.fault.several)
	stop = sync.OnceFunc(r.stopWriters)
	r.t.Cleanup(r.load.stop)
	return stop
}

// stopWriters ends the writers and resolves the outcomes that they do not know.
func (r *run) stopWriters() {
	r.t.Helper()
	r.load.stop()
	r.resolve()
}

// resolve finds out how each transaction ended. It may run only while nothing
// writes.
func (r *run) resolve() {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	r.until("the writers' connections are gone", func() bool {
		var left int
		err := conn.QueryRow(r.ctx, "select count(*) from pg_stat_activity "+
			"where datname = current_database() and application_name = $1", writerID).Scan(&left)
		return err == nil && left == 0
	})
	var end lsn
	require.NoError(r.t, conn.QueryRow(r.ctx, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&end))
	rows, err := conn.Query(r.ctx, "select token::text from commits")
	require.NoError(r.t, err)
	tokens, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r.t, err)
	present := map[string]bool{}
	for _, token := range tokens {
		present[token] = true
	}
	lost := r.load.journal.resolve(present, end)
	if !r.fault.forgets {
		assert.Zero(r.t, lost, "the database has lost acknowledged commits")
	}
}

// sample reads the slot's confirmed position at short intervals. Everything
// below it must be in Kafka. The returned function ends the sampling.
func (r *run) sample() (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	r.sampling.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			_ = r.look(ctx) // servers may be down: that is the point
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		r.sampling.Wait()
	})
	r.t.Cleanup(stop)
	return stop
}

// look reads the confirmed position and then Kafka.
func (r *run) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	position, err := r.confirmedPosition(ctx)
	if err != nil {
		return err
	}
	if err := r.audit.follow(ctx); err != nil {
		return err
	}
	// Kafka may have been frozen in the meantime, and the position may be
	// another server's.
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.foreign {
		r.audit.compareConfirmed(position)
		r.samples++
	}
	return nil
}

// looked reports whether there was a successful look.
func (r *run) looked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.samples > 0
}

// slotMoves records that another party is going to move the slot.
func (r *run) slotMoves() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.foreign = true
}

func (r *run) confirmedPosition(ctx context.Context) (position lsn, err error) {
	conn, err := pgx.Connect(ctx, r.reading())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "select confirmed_flush_lsn - '0/0'::pg_lsn "+
		"from pg_replication_slots where slot_name = $1", r.slot).Scan(&position)
	return position, err
}

// published waits until at least n events are in Kafka.
func (r *run) published(n int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d events are published", n), func() bool {
		return r.audit.follow(r.ctx) == nil && r.audit.size() >= n
	})
}

// progress waits until more events than now are in Kafka.
func (r *run) progress() {
	r.t.Helper()
	_ = r.audit.follow(r.ctx) // Kafka may be down at the moment
	r.published(r.audit.size() + warmUp/4)
}

// playStrikes lets the fault strike as often as it must.
func (r *run) playStrikes() {
	times := 1
	if r.fault.times != nil {
		times = r.fault.times()
	}
	for i := range times {
		r.strike()
		if r.fault.heal != nil {
			r.hold()
			r.fault.heal(r)
		}
		if i < times-1 && r.fault.recover {
			r.progress()
		}
	}
}

func (r *run) strike() {
	r.fault.strike(r)
	r.result.Injections++
}

func (r *run) hold() {
	if r.fault.hold != nil {
		r.fault.hold(r)
		return
	}
	r.moment(300, 2000)
}

// playStop sends SIGTERM while the fault lasts, heals it, and starts the
// streamer again.
func (r *run) playStop() {
	r.strike()
	r.moment(0, 1500)
	began := time.Now()
	code := r.streamer.end(syscall.SIGTERM)
	assert.Contains(r.t, []int{exitFine, exitInFlight}, code, "exit code of SIGTERM while the fault lasted")
	assert.Less(r.t, time.Since(began), stopWithin, "SIGTERM while the fault lasted")
	r.fault.heal(r)
	r.streamer.start()
}

// awaitRefusal waits for exit code 3 and checks the sentence. It reports
// whether the streamer has ended. If not, the audit will say what the streamer
// has done instead.
func (r *run) awaitRefusal() bool {
	r.t.Helper()
	ended := r.wait(r.patience(), func() bool { return !r.streamer.running() })
	if !assert.True(r.t, ended, "the streamer goes on instead of refusing to") {
		r.fault.patience = patience / 6 // what is missing now will not come
		r.result.Note = "it goes on instead of refusing to"
		return false
	}
	assert.Equal(r.t, exitRefused, r.streamer.code(), "exit code")
	said := lastWords(r.streamer.log())
	r.t.Logf("the streamer says: %s", said)
	for _, pattern := range r.fault.says {
		if !assert.Regexp(r.t, pattern, said, "the refusal") {
			r.result.Note = "it refuses, but the sentence does not say what it should"
		}
	}
	return true
}

// lastWords is how a log ends: with the reason and the remedy of a process that has
// ended by itself, each on a line of its own, or with its last line. The quotes of the
// text format are removed.
func lastWords(log string) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	from := len(lines) - 1
	for from > 0 && isReason(lines[from-1]) && isReason(lines[from]) {
		from--
	}
	return strings.ReplaceAll(strings.Join(lines[from:], "\n"), `\"`, `"`)
}

func isReason(line string) bool {
	return strings.HasPrefix(line, "streamer: ") || strings.HasPrefix(line, "fix: ")
}

// conclude waits until everything is published, makes sure that the fault is
// over, stops the streamer and audits.
func (r *run) conclude(refused bool) {
	r.t.Helper()
	if !refused {
		r.quiet()
		r.goOn()
	}
	require.NoError(r.t, r.audit.follow(r.ctx))
	r.result.Events = r.load.journal.count()
	found, examples := r.audit.conclude(refused)
	r.result.Lost, r.result.Phantom, r.result.Repeated = found.Lost, found.Phantom, found.Repeated
	r.result.Altered, r.result.Misordered, r.result.Early = found.Altered, found.Misordered, found.Early
	if found != (findings{}) {
		r.t.Logf("the audit of %d events:\n%s", r.result.Events, strings.Join(examples, "\n"))
	}
	if r.fault.judge != nil {
		r.fault.judge(r, found)
	} else {
		assert.Zero(r.t, found, "the audit of %d events", r.result.Events)
	}
	assert.Positive(r.t, r.result.Events)
	r.requireDiscretion()
}

// quiet waits until everything committed is in Kafka and the slot is confirmed
// up to the end of the WAL. The audit judges what is still missing then.
func (r *run) quiet() {
	r.t.Helper()
	r.awaitPublished()
	end := r.endOfLog()
	reached := r.wait(r.patience(), func() bool {
		position, err := r.confirmedPosition(r.ctx)
		return !r.streamer.running() || err == nil && position >= end
	})
	assert.True(r.t, reached, "the slot is not confirmed up to %s", end)
}

// awaitPublished waits until everything committed is in Kafka.
func (r *run) awaitPublished() {
	r.t.Helper()
	r.wait(r.patience(), func() bool {
		return !r.streamer.running() || r.audit.follow(r.ctx) == nil && r.audit.missing() == 0
	})
}

// requireDiscretion looks for what must not be in any log: secrets, payloads,
// and the stacks of a crash.
func (r *run) requireDiscretion() {
	r.t.Helper()
	for _, s := range r.instances() {
		log := s.log()
		for _, unwanted := range []string{secretPassword, secretPayload, "goroutine 1 ["} {
			if strings.Contains(log, unwanted) { // the log is too long to show
				r.t.Errorf("the streamer's log holds %q", unwanted)
			}
		}
	}
}

// unplayable ends a run that this machine does not allow. The result says so.
func (r *run) unplayable(format string, arguments ...any) {
	r.t.Helper()
	r.result.Outcome, r.result.Note = matrix.Unplayed, fmt.Sprintf(format, arguments...)
	r.t.Skip(r.result.Note)
}

// record adds the result to the collection.
func (r *run) record() {
	switch {
	case r.result.Outcome == matrix.Unplayed:
		r.result.Runs = 0
	case r.t.Failed():
		r.result.Outcome = matrix.Failed
	case r.fault.expect == refuses:
		r.result.Outcome = matrix.Refused
	default:
		r.result.Outcome = matrix.Survived
	}
	r.result.Seconds = float64(time.Since(r.began).Round(100*time.Millisecond)) / float64(time.Second)
	results.add(r.result)
	r.t.Logf("%s: %+v", r.fault.name, r.result)
}

// open returns a connection to the current database. The caller closes it.
func (r *run) open() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.ctx, r.dsn())
	require.NoError(r.t, err)
	return conn
}

// connect opens a connection to a database that may not be there.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, dsn)
}

// logEnd returns the end of the database's WAL, or 0 while the database cannot
// be asked.
func (r *run) logEnd() (end lsn) {
	conn, err := connect(r.ctx, r.dsn())
	if err != nil {
		return 0
	}
	defer conn.Close(r.ctx)
	if conn.QueryRow(r.ctx, "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn").Scan(&end) != nil {
		return 0
	}
	return end
}

// exec runs a statement in the database.
func (r *run) exec(sql string, arguments ...any) {
	r.t.Helper()
	conn := r.open()
	defer conn.Close(r.ctx)
	_, err := conn.Exec(r.ctx, sql, arguments...)
	require.NoError(r.t, err, sql)
}

// moment waits a random number of milliseconds before an accident happens.
func (r *run) moment(from, to int) {
	pause(r.ctx, time.Duration(from+r.random.IntN(to-from))*time.Millisecond)
}

// patience bounds the run's waits. A refusal comes soon or not at all: the
// catalog is checked twice a minute.
func (r *run) patience() time.Duration { return cmp.Or(r.fault.patience, patience) }

// wait polls until the condition holds and reports whether it did in time.
func (r *run) wait(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) || r.ctx.Err() != nil {
			return false
		}
		pause(r.ctx, 50*time.Millisecond)
	}
	return true
}

// until polls until the condition holds and fails the test if it does not.
func (r *run) until(what string, condition func() bool) {
	r.t.Helper()
	r.within(r.patience(), what, condition)
}

func (r *run) within(limit time.Duration, what string, condition func() bool) {
	r.t.Helper()
	if !r.wait(limit, condition) {
		r.t.Fatalf("waited %s in vain until %s", limit, what)
	}
}

// withPassword puts the password into a DSN.
func withPassword(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), secretPassword)
	return u.String()
}
