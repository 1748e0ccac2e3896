package contender

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var task = Task{
	Folder: "folder", DSN: "postgres://postgres@127.0.0.1:5432/shop", Port: 5432, Database: "shop", Slot: "slot", Publication: "streamer",
	End: "0/15306C8", Brokers: []string{"127.0.0.1:9092", "127.0.0.1:9093"}, Prefix: "run.",
	Topics: []string{"run.type0"}, Rows: 10, Payload: 300, Types: 1,
}

func TestStreamerConfiguration(t *testing.T) {
	t.Parallel()
	got := streamerConfiguration(task, "127.0.0.1:9180")
	assert.Equal(t, map[string]any{"dsn": task.DSN, "slot": "slot", "publication": "streamer"}, got["postgres"])
	assert.Equal(t, map[string]any{"brokers": task.Brokers, "topic": "run.{aggregate_type}"}, got["kafka"])
	assert.Equal(t, map[string]any{"listen": "127.0.0.1:9180"}, got["http"])
}

func TestStreamerArguments(t *testing.T) {
	t.Parallel()
	s := &Streamer{variant: Variant{Name: "streamer-x", Set: map[string]string{"b.c": "2", "a": "1"}}}
	assert.Equal(t, []string{"run", "--set", "a=1", "--set", "b.c=2"}, s.arguments("run"))
	assert.Equal(t, "streamer-x", s.Name())
}

func TestVariantsDiffer(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, v := range Variants() {
		assert.False(t, names[v.Name], v.Name)
		names[v.Name] = true
		assert.NotEmpty(t, v.About)
	}
	assert.True(t, names["streamer"], "targets are about the default")
	assert.True(t, names["streamer-stream"], "a target is about the streaming reader")
}

func TestReadVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, want, wantErr string
		rows                      int64
	}{
		{
			name: "good",
			rows: 10,
			text: "streamer: reading\n{\"summary\":{\"rows\":10,\"published\":10}}\n",
			want: "10 rows, all published, no findings",
		},
		{
			name:    "rows in flight",
			rows:    10,
			text:    `{"summary":{"rows":10,"published":9,"in_flight":1}}`,
			wantErr: "10 rows written, 10 found, 9 published",
		},
		{name: "another table", rows: 10, text: `{"summary":{"rows":9,"published":9}}`, wantErr: "10 rows written, 9 found"},
		{name: "a finding last", rows: 10, text: `{"kind":"missing"}`, wantErr: "no summary"},
		{name: "nothing", rows: 10, wantErr: "no summary"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := readVerdict(test.text, test.rows)
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestReadCounter(t *testing.T) {
	t.Parallel()
	const metrics = "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total_other 1\ngo_memstats_mallocs_total 1.234567e+06\n"
	got, err := readCounter(strings.NewReader(metrics), "go_memstats_mallocs_total")
	require.NoError(t, err)
	assert.EqualValues(t, 1_234_567, got)
	_, err = readCounter(strings.NewReader(metrics), "go_memstats")
	require.ErrorIs(t, err, errNoCounter)
	_, err = readCounter(strings.NewReader("x y\n"), "x")
	require.ErrorContains(t, err, "y")
}

func TestDebeziumProperties(t *testing.T) {
	t.Parallel()
	for _, d := range Debeziums(&Connect{folder: "cache"}) {
		d.address = "127.0.0.1:8083"
		worker, connector := d.workerProperties(task), d.connectorProperties(task)
		assert.Equal(t, "127.0.0.1:9092,127.0.0.1:9093", worker["bootstrap.servers"], d.Name())
		assert.Equal(t, "http://127.0.0.1:8083", worker["listeners"], d.Name())
		assert.Equal(t, "no_data", connector["snapshot.mode"], d.Name())
		assert.Equal(t, "run.${routedByValue}", connector["transforms.outbox.route.topic.replacement"], d.Name())
		assert.Equal(t, "5432", connector["database.port"], d.Name())
		tuned, exactlyOnce := d.Name() != "debezium", d.Name() == "debezium-eos"
		assert.Equal(t, tuned, connector["max.batch.size"] != "", d.Name())
		assert.Equal(t, tuned, worker["producer.compression.type"] == "lz4", d.Name())
		assert.Equal(t, exactlyOnce, d.Transactional(), d.Name())
		assert.Equal(t, exactlyOnce, worker["exactly.once.source.support"] == "enabled", d.Name())
		assert.Equal(t, exactlyOnce, connector["exactly.once.support"] == "required", d.Name())
		assert.Equal(t, exactlyOnce, worker["offset.storage.topic"] == "run.connect-offsets", d.Name())
		assert.Equal(t, !exactlyOnce, worker["offset.storage.file.filename"] != "", d.Name())
	}
}

func TestDebeziumCommand(t *testing.T) {
	t.Parallel()
	for _, d := range Debeziums(&Connect{java: "java", folder: "cache"}) {
		own := task
		own.Folder = t.TempDir()
		cmd, err := d.Command(t.Context(), own)
		require.NoError(t, err)
		class, last := "org.apache.kafka.connect.cli.ConnectStandalone", "connector.properties"
		if d.Transactional() {
			class, last = "org.apache.kafka.connect.cli.ConnectDistributed", "worker.properties"
		}
		assert.Contains(t, cmd.Args, class, d.Name())
		assert.Equal(t, filepath.Join(own.Folder, last), cmd.Args[len(cmd.Args)-1], d.Name())
	}
}

// A worker that starts answers in several ways before it takes a connector.
func TestSubmit(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	for _, test := range []struct {
		name    string
		answers []int // then the last one for ever
		asked   int64
		wantErr string
	}{
		{name: "at once", answers: []int{201}, asked: 1},
		{name: "again", answers: []int{200}, asked: 1},
		{name: "while it starts", answers: []int{404, 503, 500, 409, 201}, asked: 5},
		{name: "refused", answers: []int{503, 400}, asked: 2, wantErr: "400 Bad Request: why"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := asked.Add(1)
				var got map[string]string
				assert.NoError(t, json.NewDecoder(r.Body).Decode(&got))
				assert.Equal(t, map[string]string{"a": "1"}, got)
				w.WriteHeader(test.answers[min(int(n), len(test.answers))-1])
				_, _ = io.WriteString(w, "why")
			}))
			defer server.Close()
			err := submit(t.Context(), server.URL, map[string]string{"a": "1"}, never)
			if test.wantErr == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.wantErr)
			}
			assert.Equal(t, test.asked, asked.Load())
		})
	}
	t.Run("the worker has ended", func(t *testing.T) {
		t.Parallel()
		ended := make(chan struct{})
		close(ended)
		require.ErrorContains(t, submit(t.Context(), "http://127.0.0.1:1", nil, ended), "has ended")
	})
}

// Only a worker with exactly once is given its connector over HTTP.
func TestSubmitOfStandalone(t *testing.T) {
	t.Parallel()
	for _, d := range Debeziums(nil) {
		d.address = "127.0.0.1:1"
		ended := make(chan struct{})
		close(ended)
		assert.Equal(t, d.Transactional(), d.Submit(t.Context(), task, ended) != nil, d.Name())
	}
}

func TestPropertiesText(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a=1\nb=c\\\\d\n", propertiesText(map[string]string{"b": `c\d`, "a": "1"}))
}

func TestRaws(t *testing.T) {
	t.Parallel()
	for _, raw := range Raws(Programs{Folder: "programs"}, "no such folder") {
		if raw.Kind() == Writer {
			continue
		}
		cmd, err := raw.Command(t.Context(), task)
		require.NoError(t, err, raw.Name())
		all := strings.Join(cmd.Args, " ")
		if raw.Kind() == Producer {
			assert.Contains(t, all, "-rows 10")
			continue
		}
		assert.Contains(t, all, "slot", raw.Name())
		assert.Contains(t, all, "0/15306C8", raw.Name())
		steady := task
		steady.End = ""
		_, err = raw.Command(t.Context(), steady)
		require.ErrorContains(t, err, "no end", raw.Name())
	}
}
