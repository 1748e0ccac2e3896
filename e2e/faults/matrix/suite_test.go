package matrix_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
)

func TestReadSuites(t *testing.T) {
	t.Parallel()
	const output = `{"Action":"build-output","ImportPath":"x","Output":"warning"}
{"Action":"start","Package":"github.com/outboxstream/streamer/e2e"}
{"Action":"pass","Package":"github.com/outboxstream/streamer/e2e","Test":"TestGood","Elapsed":1}
{"Action":"skip","Package":"github.com/outboxstream/streamer/e2e","Test":"TestLong"}
{"Action":"output","Package":"github.com/outboxstream/streamer/e2e","Test":"TestBad/part","Output":"why"}
{"Action":"fail","Package":"github.com/outboxstream/streamer/e2e","Test":"TestBad/part"}
{"Action":"fail","Package":"github.com/outboxstream/streamer/e2e","Test":"TestBad"}
{"Action":"fail","Package":"github.com/outboxstream/streamer/e2e","Elapsed":2.5}
{"Action":"pass","Package":"github.com/outboxstream/streamer/router/kafka","Test":"TestFence"}
{"Action":"pass","Package":"github.com/outboxstream/streamer/router/kafka","Elapsed":1}
{"Action":"pass","Package":"github.com/outboxstream/streamer/router/unfinished","Test":"TestFence"}
`
	var complaints strings.Builder
	suites, err := matrix.ReadSuites(strings.NewReader(output), &complaints)
	require.NoError(t, err)
	require.Len(t, suites, 3)

	bad, good, unfinished := suites[0], suites[1], suites[2]
	assert.True(t, bad.Failed())
	assert.Equal(t, matrix.Result{
		Fault: "`go test ./e2e`", What: "all tests of the package", Group: "Test suites", Kafka: "4.4.0",
		Outcome: matrix.Failed, Note: "1 passed, 1 failed: TestBad; 1 skipped", Seconds: 2.5,
	}, bad.Result("4.4.0", ""))
	assert.Contains(t, complaints.String(), "TestBad/part\nwhy")

	assert.False(t, good.Failed())
	part := good.Result("4.4.0", "^(TestFence|TestRenew)$")
	assert.Equal(t, matrix.Passed, part.Outcome)
	assert.Equal(t, "tests named `^(TestFence\\|TestRenew)$`", part.What)
	assert.True(t, unfinished.Failed(), "its tests were ended by the deadline")

	_, err = matrix.ReadSuites(strings.NewReader("not JSON"), &complaints)
	require.Error(t, err)
}

func TestSuitesInTheTable(t *testing.T) {
	t.Parallel()
	suite := matrix.Result{
		Fault: "`go test ./e2e`", What: "all", Group: "Test suites", Kafka: "4.4.0", Outcome: matrix.Passed, Note: "5 passed",
	}
	text := matrix.KafkaTables([]matrix.Result{suite})
	assert.Contains(t, text, "| `go test ./e2e` | all | – | passed: 5 passed |")
	assert.Contains(t, text, "0 runs on Apache Kafka 4.4.0: 0 survived, 0 refused as they should be, 0 failed.")
}

// A package may have run as a whole on one version, and in part on another.
func TestSuitesAreInOrder(t *testing.T) {
	t.Parallel()
	var results []matrix.Result
	for i, what := range []string{"some tests", "all tests", "other tests"} {
		results = append(results, matrix.Result{
			Fault: "`go test ./e2e`", What: what, Group: "Test suites", Kafka: fmt.Sprintf("4.%d.0", i), Outcome: matrix.Passed,
		})
	}
	text := matrix.KafkaTables(results)
	for range 20 { // a map has another order each time
		require.Equal(t, text, matrix.KafkaTables(results))
	}
	assert.Regexp(t, `(?s)\| all tests .*\| other tests .*\| some tests `, text)
}
