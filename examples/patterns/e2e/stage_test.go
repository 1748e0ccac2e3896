package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/consume"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// stage is what an example runs on.
type stage struct {
	*testing.T
	example   string
	folder    string
	binaries  string
	pg        *pgtest.Server
	kafka     *kafkatest.Cluster
	processes []*process
	random    *rand.Rand
}

func newStage(t *testing.T, example string) *stage {
	t.Helper()
	folder, err := binaries()
	require.NoError(t, err)
	seed := uint64(time.Now().UnixNano())
	t.Logf("the seed of the kills is %d", seed)
	return &stage{
		T: t, example: example, folder: t.TempDir(), binaries: folder,
		pg: pgtest.Shared(t), kafka: kafkatest.Shared(t), random: rand.New(rand.NewPCG(seed, 0)),
	}
}

// long is whether there is time for thousands of events and hundreds of kills.
func long() bool { return os.Getenv("STREAMER_LONG") != "" }

// load is how many events the load of an example consists of: for a short test,
// unless there is time.
func load(few int) int {
	if long() {
		return 12 * few
	}
	return few
}

// database is one of the databases of an example.
type database struct {
	*stage
	dsn string
	db  *pgx.Conn
}

// database creates a database with an inbox and whatever else is given.
func (s *stage) database(schemas ...string) *database {
	s.Helper()
	d := &database{stage: s, dsn: s.pg.CreateDatabase(s.T)}
	var err error
	d.db, err = pgx.Connect(s.Context(), d.dsn)
	require.NoError(s, err)
	s.Cleanup(func() { _ = d.db.Close(context.WithoutCancel(s.Context())) })
	for _, schema := range append(schemas, consume.Schema) {
		d.exec(schema)
	}
	return d
}

func (d *database) exec(statement string, arguments ...any) {
	d.Helper()
	_, err := d.db.Exec(d.Context(), statement, arguments...)
	require.NoError(d, err)
}

// number returns the single number that a query yields.
func (d *database) number(query string, arguments ...any) (n int64) {
	d.Helper()
	require.NoError(d, d.db.QueryRow(d.Context(), query, arguments...).Scan(&n))
	return n
}

// texts returns the single column that a query yields.
func (d *database) texts(query string) []string {
	d.Helper()
	rows, err := d.db.Query(d.Context(), query)
	require.NoError(d, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(d, err)
	return all
}

// environment is what a streamer of this database gets.
func (d *database) environment(slot string) []string {
	return []string{
		"STREAMER_CONFIG=" + d.configuration(), "STREAMER_POSTGRES_DSN=" + d.dsn, "STREAMER_POSTGRES_SLOT=" + slot,
		"STREAMER_KAFKA_BROKERS=" + strings.Join(d.kafka.Brokers(), ","),
	}
}

// configuration is the example's streamer.yaml.
func (s *stage) configuration() string {
	path, err := filepath.Abs(filepath.Join("..", s.example, "streamer.yaml"))
	require.NoError(s, err)
	return path
}

// streamer sets up a streamer for a database, and runs it.
func (d *database) streamer(name string, topics ...string) {
	d.Helper()
	slot := strings.ReplaceAll(d.example+"_"+name, "-", "_")
	setup := d.command("streamer", d.environment(slot), "setup", "--topic", strings.Join(topics, ","))
	output, err := setup.CombinedOutput()
	require.NoError(d, err, "%s", output)
	d.run("streamer-"+name, func() *exec.Cmd { return d.command("streamer", d.environment(slot), "run") })
}

// service runs a service on a database.
func (d *database) service(name string, more ...string) *process {
	d.Helper()
	arguments := append([]string{name, "-dsn", d.dsn, "-brokers", strings.Join(d.kafka.Brokers(), ",")}, more...)
	return d.run(name, func() *exec.Cmd { return d.command("patterns", nil, arguments...) })
}

// clients runs a load, which ends by itself.
func (d *database) clients(name string, n int, rate float64, more ...string) *process {
	d.Helper()
	p := d.service(name, append(more, "-n", strconv.Itoa(n), "-rate", strconv.FormatFloat(rate, 'f', -1, 64))...)
	p.mayComplete = true
	return p
}

// rage kills one process after another, each at a random moment, and starts it
// again, until a condition holds. In a short test it has enough after some kills.
func (s *stage) rage(enough func() bool) {
	s.Helper()
	const most = 12
	began, kills, deadline := time.Now(), 0, time.Now().Add(patience)
	for !enough() {
		s.pause(200*time.Millisecond + time.Duration(s.random.Int64N(int64(400*time.Millisecond))))
		if long() {
			deadline = time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			s.Fatalf("not done within %v", patience)
		}
		victim := s.processes[s.random.IntN(len(s.processes))]
		if victim.complete() || kills >= most && !long() {
			continue
		}
		victim.kill()
		victim.start()
		kills++
	}
	s.Logf("%d kills in %v", kills, time.Since(began).Round(time.Millisecond))
}

// patience bounds every wait for something that must happen.
const patience = 90 * time.Second

func (s *stage) pause(duration time.Duration) {
	select {
	case <-time.After(duration):
	case <-s.Context().Done():
	}
}

func (s *stage) kills() (n int) {
	for _, p := range s.processes {
		n += p.kills
	}
	return n
}

// eventually waits for something that must happen.
func (s *stage) eventually(what string, condition func() bool) {
	s.Helper()
	began := time.Now()
	defer func() { s.Logf("%s, after %v", what, time.Since(began).Round(time.Millisecond)) }()
	deadline := time.Now().Add(patience)
	for !condition() {
		for _, p := range s.processes {
			p.check()
		}
		if time.Now().After(deadline) {
			s.Fatalf("not after %v: %s", patience, what)
		}
		s.pause(200 * time.Millisecond)
	}
}
