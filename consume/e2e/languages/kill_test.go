package languages

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// Each row of the outbox is booked once by each program, and those of a key in
// order, although instances are killed again and again, join and leave, a replay
// publishes everything again, the topic grows, and dead letters come late.
func TestOtherLanguages(t *testing.T) {
	t.Parallel()
	kills := 3
	if os.Getenv("STREAMER_LONG") != "" {
		kills = 100
	}
	if text := os.Getenv("KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	kafka := sharedKafka(t)
	for _, in := range languages {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			killedAgainAndAgain(t, newSource(t, newLedger(t, kafka, in)), kills)
		})
	}
}

// source is a service that writes an outbox, and its streamer.
type source struct {
	*ledger
	outbox   *pgx.Conn
	dsn      string
	streamed *os.File // what the streamer says
	binary   string
	flags    []string
}

func newSource(t *testing.T, l *ledger) *source {
	t.Helper()
	s := &source{ledger: l, dsn: pgtest.Shared(t).CreateDatabase(t), binary: filepath.Join(t.TempDir(), "streamer")}
	require.NoError(t, testserver.Build(t.Context(), "../../..", "./cmd/streamer", s.binary))
	s.streamed = logFile(t, "the streamer")
	s.outbox = connect(t, s.dsn)
	prefix := strings.TrimSuffix(l.topic, ".order")
	require.NoError(t, l.kafka.CreateTopic(t.Context(), l.topic, 3, map[string]string{"max.message.bytes": "20000"}))
	slot := "slot_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	run(t, s.outbox, `create table outbox (id uuid primary key default gen_random_uuid(), number bigint generated always as identity,
		aggregatetype text, aggregateid text, type text, payload jsonb)`)
	run(t, s.outbox, "create publication streamer for table outbox with (publish = 'insert')")
	run(t, s.outbox, "select pg_create_logical_replication_slot($1, 'pgoutput')", slot)
	ports, err := testserver.FreePorts(1)
	require.NoError(t, err)
	for _, setting := range []string{
		"postgres.dsn=" + s.dsn, "postgres.slot=" + slot, "kafka.brokers=" + strings.Join(l.kafka.Brokers(), ","),
		"kafka.topic=" + prefix + ".{aggregate_type}", "checkpoint.store=kafka", "checkpoint.kafka.topic=checkpoints-" + prefix,
		"checkpoint.kafka.replication_factor=1", "checkpoint.interval=50ms", "kafka.topics.create=true", "kafka.topics.replication_factor=1",
		"poison.policy=dead-letter", "poison.topic=letters-" + prefix, "log.format=text", "kafka.max_batch_bytes=15000B",
		"rewind.keep=24h", "http.listen=127.0.0.1:" + strconv.Itoa(ports[0]),
	} {
		s.flags = append(s.flags, "--set", setting)
	}
	return s
}

// stream starts the streamer, and waits until it streams.
func (s *source) stream() *exec.Cmd {
	s.Helper()
	const streams = "msg=streaming "
	before := strings.Count(said(s.T, s.streamed), streams)
	cmd := exec.CommandContext(context.Background(), s.binary, append([]string{"run"}, s.flags...)...)
	cmd.Stdout, cmd.Stderr = s.streamed, s.streamed
	s.start(cmd)
	s.eventually("the streamer streams", func() bool { return strings.Count(said(s.T, s.streamed), streams) > before })
	return cmd
}

// command runs a command of the streamer to its end.
func (s *source) command(arguments ...string) {
	s.Helper()
	output, err := exec.CommandContext(s.Context(), s.binary, append(arguments, s.flags...)...).CombinedOutput()
	require.NoError(s, err, string(output))
}

// grow does what docs/how-to/consume-in-other-languages.md says about growing a
// topic, while rows are written and instances read.
func (s *source) grow(streamer *exec.Cmd, partitions int) *exec.Cmd {
	s.Helper()
	for code := 4; code == 4; { // it says that something was still on its way
		require.NoError(s, streamer.Process.Signal(syscall.SIGTERM))
		if code = s.ended(streamer); code == 4 {
			streamer = s.stream()
			continue
		}
		require.Zero(s, code)
	}
	records := s.records()
	s.eventually("the group has no lag", func() bool { return s.caughtUp(records) })
	require.NoError(s, s.kafka.AddPartitions(s.Context(), s.topic, partitions))
	return s.stream()
}

func killedAgainAndAgain(t *testing.T, s *source, kills int) {
	t.Helper()
	streamer := s.stream()
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { assert.NoError(t, write(context.WithoutCancel(t.Context()), s.dsn, stop, 50*time.Millisecond)) })
	t.Cleanup(sync.OnceFunc(func() { // where the test fails before
		select {
		case <-stop:
		default:
			close(stop)
		}
		writing.Wait()
	}))
	instances := []*exec.Cmd{s.join(), s.join()}
	left := 0
	for kill := range kills {
		before := number(t, s.db, entries)
		s.eventually("the instances make progress", func() bool { return number(t, s.db, entries) > before })
		<-time.After(time.Duration(rand.IntN(1000)) * time.Millisecond) // anywhere
		victim := rand.IntN(len(instances))
		require.NoError(t, instances[victim].Process.Kill())
		_ = instances[victim].Wait()
		instances[victim] = s.join()
		switch rand.IntN(6) { // the group grows and shrinks
		case 0:
			if len(instances) < 3 {
				instances = append(instances, s.join())
			}
		case 1:
			if len(instances) > 1 {
				require.NoError(t, instances[0].Process.Signal(syscall.SIGTERM))
				_ = instances[0].Wait() // it may not have got as far as to listen
				instances = instances[1:]
				left++
			}
		}
		switch kill {
		case kills / 4:
			s.command("replay", "--from", "beginning", "--rate", "0")
		case kills / 2:
			streamer = s.grow(streamer, 5)
		case kills * 3 / 4:
			require.NoError(t, s.kafka.SetTopic(t.Context(), s.topic, "max.message.bytes", "1000000"))
			s.command("dead-letters", "retry", "--all", "--yes")
		}
	}
	close(stop)
	writing.Wait()
	s.command("replay", "--from", "beginning", "--rate", "0") // also of keys that have moved
	rows := number(t, s.outbox, "select count(*) from outbox")
	retried := time.Now()
	s.eventually("every row is booked", func() bool {
		if time.Since(retried) > 5*time.Second { // the streamer may have found another dead letter after the last time
			s.command("dead-letters", "retry", "--all", "--yes")
			retried = time.Now()
		}
		return number(t, s.db, "select count(distinct event) from entry") == rows
	})
	records := s.records()
	s.eventually("everything is read", func() bool { return s.caughtUp(records) })
	t.Logf("%s: %d kills, %d starts, %d left: %s", s.in.name, kills, s.started, left, s.audit(s.outbox))
}
