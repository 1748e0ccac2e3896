package matrix_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
)

func result(fault, version, outcome string) matrix.Result {
	return matrix.Result{
		Fault: fault, What: "what of " + fault, Group: "Group", PostgreSQL: version, Brokers: 1,
		Runs: 1, Injections: 2, Events: 100, Outcome: outcome,
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	newer := result("kill", "15.18", matrix.Failed)
	merged := matrix.Merge(
		[]matrix.Result{result("kill", "15.13", matrix.Survived), result("cut", "15.13", matrix.Survived)},
		[]matrix.Result{newer, result("kill", "17.5", matrix.Survived)},
	)
	require.Len(t, merged, 3, "a newer minor release replaces the older")
	assert.Equal(t, "cut", merged[0].Fault)
	assert.Equal(t, newer, merged[1])
	assert.Equal(t, "17.5", merged[2].PostgreSQL)
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	none, err := matrix.Load(path)
	require.NoError(t, err)
	assert.Empty(t, none)
	want := []matrix.Result{result("kill", "15.13", matrix.Survived)}
	require.NoError(t, matrix.Save(path, want))
	got, err := matrix.Load(path)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, os.WriteFile(path, []byte("["), 0o600))
	_, err = matrix.Load(path)
	require.ErrorContains(t, err, path)
}

func TestTables(t *testing.T) {
	t.Parallel()
	damaged := result("kill", "17.5", matrix.Failed)
	damaged.Lost, damaged.Note = 3, "a | b"
	text := matrix.Tables([]matrix.Result{result("kill", "9.6", matrix.Survived), damaged, result("drop", "17.5", matrix.Refused)})
	assert.Contains(t, text, "3 runs on PostgreSQL 9.6, 17.5: 1 survived, 1 refused as they should be, 1 failed.")
	assert.Contains(t, text, "3 lost, 0 never committed")
	assert.Contains(t, text, "| fault | what happens | brokers | 9 | 17 |")
	assert.Contains(t, text, "| drop | what of drop | 1 | – | refused, 2×, 100 events |")
	assert.Contains(t, text, "| kill | what of kill | 1 | survived, 2×, 100 events | FAILED, 2×, 100 events, **3 lost**: a / b |")
}

func TestKafkaTables(t *testing.T) {
	t.Parallel()
	on := func(kafka, outcome string) matrix.Result {
		r := result("kill", "17.5", outcome)
		r.Kafka = kafka
		return r
	}
	merged := matrix.Merge(
		[]matrix.Result{on("4.1.1", matrix.Failed), on("4.10.0", matrix.Survived)},
		[]matrix.Result{on("4.1.2", matrix.Survived), on("4.4.0", matrix.Refused)},
	)
	require.Len(t, merged, 3, "a newer patch replaces the older")
	text := matrix.KafkaTables(merged)
	assert.Contains(t, text, "3 runs on PostgreSQL 17.5 and Apache Kafka 4.1.2, 4.4.0, 4.10.0: "+
		"2 survived, 1 refused as they should be, 0 failed.")
	assert.Contains(t, text, "| fault | what happens | brokers | 4.1 | 4.4 | 4.10 |")
	assert.Contains(t, text, "| 1 | survived, 2×, 100 events | refused, 2×, 100 events | survived, 2×, 100 events |")
}

func TestInsert(t *testing.T) {
	t.Parallel()
	page, err := matrix.Insert("before "+matrix.Begin+" old "+matrix.End+" after", "new")
	require.NoError(t, err)
	assert.Equal(t, "before "+matrix.Begin+"\n\nnew\n"+matrix.End+" after", page)
	again, err := matrix.Insert(page, "new")
	require.NoError(t, err)
	assert.Equal(t, page, again)
	_, err = matrix.Insert("no markers", "new")
	require.Error(t, err)
}

// The pages show the current results.
func TestPagesAreUpToDate(t *testing.T) {
	t.Parallel()
	for name, p := range matrix.Pages {
		results, err := matrix.Load(filepath.Join("..", p.Results))
		require.NoError(t, err)
		require.NotEmpty(t, results, name)
		page, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		want, err := matrix.Insert(string(page), p.Render(results))
		require.NoError(t, err)
		assert.Equal(t, want, string(page), "%s: run go generate ./e2e/faults", name)
	}
}
