package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/audit"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
	"github.com/outboxstream/streamer/internal/testserver"
)

// setStage creates a folder for everything that the demo leaves while it runs.
func setStage(t *testing.T) (folder string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the demo needs PostgreSQL")
	}
	folder = t.TempDir()
	t.Setenv("TMPDIR", folder)
	return folder
}

// recording is an output that calls a function once it contains a certain text.
type recording struct {
	mutex sync.Mutex
	text  bytes.Buffer
	mark  string
	then  func()
}

func (r *recording) Write(p []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.mark != "" && bytes.Contains(p, []byte(r.mark)) {
		r.then()
	}
	return r.text.Write(p)
}

func TestDemo(t *testing.T) {
	folder := setStage(t)
	out := &recording{}
	err := run(t.Context(), []string{"-broker=fake", "-duration=3s", "-rate=300"}, out, out)
	t.Log(out.text.String())
	testserver.Require(t, err)
	for _, want := range []string{
		"1/6  PostgreSQL", "kfake on 127.0.0.1:", "created  slot streamer", "streams from the slot", "ce_specversion  1.0",
		"kill -9", "takes up at the checkpoint", "everything has arrived", "exit code 0", "6/6  Audit", "✓ lost ", "✓ out of order ",
		"✓ rolled back but published ", "✓ left in the slot ", "The audit found nothing wrong.", "next: README.md",
	} {
		assert.Contains(t, out.text.String(), want)
	}
	assert.NotContains(t, out.text.String(), "\x1b", "colours are for terminals")
	requireEmpty(t, folder)
}

func TestDemoInterrupted(t *testing.T) {
	folder := setStage(t)
	for _, mark := range []string{"1/6  PostgreSQL", "first event", "kill -9"} {
		t.Run(mark, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			out := &recording{mark: mark, then: interrupt}
			err := run(ctx, []string{"-broker=fake", "-duration=1s"}, out, out)
			if !errors.Is(err, context.Canceled) {
				testserver.Require(t, err)
			}
			require.Error(t, err)
			assert.NotContains(t, out.text.String(), "nothing wrong")
			requireEmpty(t, folder)
		})
	}
}

func TestDemoWithAGivenKafka(t *testing.T) {
	folder := setStage(t)
	cluster := fake.Start(t)
	t.Setenv("STREAMER_DEMO_BROKERS", strings.Join(cluster.Brokers(), ","))
	out := &recording{}
	testserver.Require(t, run(t.Context(), []string{"-duration=1s"}, out, out))
	assert.Contains(t, out.text.String(), "the Kafka cluster you gave, 127.0.0.1:")
	requireEmpty(t, folder)

	admin, err := sarama.NewClusterAdmin(cluster.Brokers(), sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	topics, err := admin.ListTopics()
	require.NoError(t, err)
	delete(topics, "__consumer_offsets") // the cluster's own
	assert.Empty(t, topics, "left behind")
	groups, err := admin.ListConsumerGroups()
	require.NoError(t, err)
	assert.Empty(t, groups, "left behind")
}

func requireEmpty(t *testing.T, folder string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(folder, "streamer-test-*"))
	require.NoError(t, err)
	require.Empty(t, left, "left behind")
}

func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ argument, want string }{
		"a broker nobody knows":   {"-broker=rabbit", "-broker rabbit: must be auto, kafka or fake"},
		"a shop open too shortly": {"-duration=1ms", "-duration 1ms"},
		"a shop that does not do": {"-rate=0", "-rate 0"},
		"a shop with nobody":      {"-connections=0", "-connections 0"},
		"a flag nobody knows":     {"-colour", "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			require.ErrorIs(t, run(t.Context(), []string{test.argument}, &out, &out), errUsage)
			assert.Contains(t, out.String(), test.want)
		})
	}
}

func TestReportShowsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		report  audit.Report
		waiting int
		want    string
	}{
		"lost":         {audit.Report{Count: map[audit.Kind]int{audit.Lost: 1234}}, 0, "✗ lost                           1,234"},
		"out of order": {audit.Report{Count: map[audit.Kind]int{audit.OutOfOrder: 1}}, 0, "✗ out of order "},
		"scattered":    {audit.Report{Count: map[audit.Kind]int{audit.Scattered: 1}}, 0, "✗ out of order "},
		"torn":         {audit.Report{Count: map[audit.Kind]int{audit.Torn: 1}}, 0, "✗ out of order "},
		"phantom":      {audit.Report{Count: map[audit.Kind]int{audit.Phantom: 1}}, 0, "✗ rolled back but published "},
		"altered":      {audit.Report{Count: map[audit.Kind]int{audit.Altered: 1}}, 0, "✗ altered or unknown "},
		"unknown":      {audit.Report{Count: map[audit.Kind]int{audit.Unknown: 1}}, 0, "✗ altered or unknown "},
		"invalid":      {audit.Report{Count: map[audit.Kind]int{audit.Invalid: 1}}, 0, "✗ altered or unknown "},
		"waiting":      {audit.Report{}, 1, "✗ left in the slot "},
		"repeated":     {audit.Report{Repeated: 7}, 0, "✗ repeated                           7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			d := &demo{screen: newScreen(&out)}
			d.showReport(&test.report, test.waiting)
			assert.Contains(t, out.String(), test.want)
		})
	}
}

func TestWithLog(t *testing.T) {
	t.Parallel()
	folder, err := testserver.NewFolder(t.TempDir(), "demo")
	require.NoError(t, err)
	defer func() { require.NoError(t, folder.Remove()) }()
	d := &demo{folder: folder}
	broken := errors.New("broken")
	require.NoError(t, d.withLog(nil))
	require.EqualError(t, d.withLog(broken), "broken", "no log yet")
	require.NoError(t, os.WriteFile(d.logFile(), []byte("first\n"+strings.Repeat("line\n", 19)+"last\n"), 0o600))
	got := d.withLog(broken)
	require.ErrorIs(t, got, broken)
	assert.Contains(t, got.Error(), "last")
	assert.NotContains(t, got.Error(), "first", "the end alone is enough")
}

func TestScreen(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 12: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, grouped(n))
	}
	s := &screen{width: 5}
	assert.Equal(t, "größe", s.cut("größe"))
	assert.Equal(t, "größ…", s.cut("größer"))
	assert.Equal(t, "…", s.cutTo(-1, "ab"))
	assert.Equal(t, "x", s.paint(red, "x"))
	s.colours = true
	assert.Equal(t, "\x1b[31mx\x1b[0m", s.paint(red, "x"))
}

func TestScreenKeepsCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newScreen(&out)
		broken := errors.New("broken")
		require.ErrorIs(t, s.keepCompany(func() error {
			<-time.After(12 * time.Second)
			s.progress("downloading")
			<-time.After(9 * time.Second)
			return broken
		}), broken)
		assert.Equal(t, "     … 5 s\n     … 10 s\n     downloading …\n     … 20 s\n", out.String())
	})
}

// The servers of tests and of the demo are not for production.
func TestStreamerDoesNotLinkTestServers(t *testing.T) {
	t.Parallel()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/outboxstream/streamer/cmd/streamer").Output()
	require.NoError(t, err)
	linked := strings.Fields(string(output))
	require.Contains(t, linked, "github.com/IBM/sarama", "the list is the binary's")
	for _, path := range linked {
		for _, foreign := range []string{
			"testing", "github.com/stretchr/testify", "github.com/twmb/franz-go", "github.com/xi2/xz",
			"github.com/outboxstream/streamer/internal/pgtest", "github.com/outboxstream/streamer/internal/kafkatest",
			"github.com/outboxstream/streamer/internal/testserver", "github.com/outboxstream/streamer/internal/audit",
			"github.com/outboxstream/streamer/examples",
		} {
			assert.False(t, path == foreign || strings.HasPrefix(path, foreign+"/"), "%s is linked into the streamer", path)
		}
	}
}
