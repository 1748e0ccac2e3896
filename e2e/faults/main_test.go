package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// binary is the streamer under test: STREAMER_FAULTS_BINARY, or one built once.
var binary = os.Getenv("STREAMER_FAULTS_BINARY")

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "streamer-faults-*")
	if err == nil && binary == "" {
		binary = filepath.Join(folder, "streamer")
		err = testserver.Build(context.Background(), "../..", "./cmd/streamer", binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testserver.Main(m, closeServers, kafkatest.CloseShared)
	if err := results.save(os.Getenv("STREAMER_FAULTS_RESULTS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// Servers that several runs share.
var (
	serversMu  sync.Mutex
	servers    = map[string]*testserver.Shared[*pgtest.Server]{} // by version
	threeNodes testserver.Shared[*kafkatest.Cluster]
)

// server returns the PostgreSQL server of a run: the shared one of the version,
// or a separate one if the fault needs it.
func server(t *testing.T, f fault, version string) *pgtest.Server {
	t.Helper()
	if f.postgres != nil {
		return pgtest.New(t, pgtest.Options{Version: version, Settings: f.postgres})
	}
	return sharedServer(t, version)
}

func sharedServer(t *testing.T, version string) *pgtest.Server {
	t.Helper()
	serversMu.Lock()
	shared := servers[version]
	if shared == nil {
		shared = &testserver.Shared[*pgtest.Server]{}
		servers[version] = shared
	}
	serversMu.Unlock()
	s, err := shared.Get(func() (*pgtest.Server, error) {
		return pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Version: version, Progress: progress})
	})
	testserver.Require(t, err)
	return s
}

// cluster returns the Kafka cluster of a run.
func cluster(t *testing.T, f fault) *kafkatest.Cluster {
	t.Helper()
	if f.kafka != nil {
		return kafkatest.New(t, *f.kafka)
	}
	if f.brokers <= 1 {
		return kafkatest.Shared(t)
	}
	c, err := threeNodes.Get(func() (*kafkatest.Cluster, error) {
		return kafkatest.Start(context.WithoutCancel(t.Context()), kafkatest.Options{Brokers: f.brokers, Progress: progress})
	})
	testserver.Require(t, err)
	return c
}

// progress shows the progress of a download at once.
func progress(line string) { fmt.Println("faults:", line) }

func closeServers() {
	serversMu.Lock()
	defer serversMu.Unlock()
	for _, shared := range servers {
		shared.Close(func(s *pgtest.Server) { complain(s.Close()) })
	}
	threeNodes.Close(func(c *kafkatest.Cluster) { complain(c.Close()) })
}

func complain(err error) {
	if err != nil {
		fmt.Println(err)
	}
}

// results collects the results of the runs.
var results collection

type collection struct {
	mu  sync.Mutex
	all []matrix.Result
}

func (c *collection) add(r matrix.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, r)
}

// save merges the results into a file. Without a file name it does nothing.
func (c *collection) save(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path == "" || len(c.all) == 0 {
		return nil
	}
	older, err := matrix.Load(path)
	if err != nil {
		return err
	}
	return matrix.Save(path, matrix.Merge(older, c.all))
}
