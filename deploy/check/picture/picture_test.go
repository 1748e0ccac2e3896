package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// prometheus answers each query with two series, and rejects anything that is
// not an expression.
func prometheus(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		query := request.URL.Query()
		if _, err := parser.ParseExpr(query.Get("query")); err != nil {
			assert.NoError(t, json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}))
			return
		}
		start, err := strconv.ParseFloat(query.Get("start"), 64)
		assert.NoError(t, err)
		assert.Equal(t, "/api/v1/query_range", request.URL.Path)
		fmt.Fprintf(w, `{"data": {"result": [
			{"metric": {"topic": "a<b"}, "values": [[%f, "1"], [%f, "NaN"], [%f, "3000"]]}, `+
			`{"metric": {"topic": "c"}, "values": []}]}}`, start, start+1, start+2)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// wellFormed returns the texts of a picture.
func wellFormed(t *testing.T, picture string) (texts string) {
	t.Helper()
	for decoder := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts += string(text) + "\n"
		}
	}
}

func TestDashboardIsDrawn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{
		"dashboard", "-prometheus", prometheus(t), "-dashboard", "../../compose/grafana/dashboards/streamer.json",
	}, nil, &out))
	texts := wellFormed(t, out.String())
	board, err := readDashboard("../../compose/grafana/dashboards/streamer.json")
	require.NoError(t, err)
	charts := 0
	for _, p := range board.Panels {
		assert.Contains(t, texts, p.Title+"\n")
		if p.Type == "timeseries" {
			charts++
		}
	}
	assert.Contains(t, texts, "a<b\n", "a topic in a legend")
	assert.NotContains(t, texts, "no data")
	assert.Equal(t, charts, strings.Count(out.String(), `stroke="#1f77b4" stroke-width`), "a first line in each chart")
}

func TestTerminalIsDrawn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	long := "warn  slot — " + strings.Repeat("word ", 40)
	require.NoError(t, run(t.Context(), []string{"terminal", "streamer doctor"},
		strings.NewReader("ok    Kafka — <reachable>\n"+long), &out))
	texts := wellFormed(t, out.String())
	assert.Contains(t, texts, "$ streamer doctor\nok    Kafka — <reachable>\n")
	assert.Equal(t, 40, strings.Count(texts, "word"))
	assert.Equal(t, 2, strings.Count(out.String(), verdictColors["warn"]), "in two rows")
	require.ErrorIs(t, run(t.Context(), []string{"terminal"}, nil, io.Discard), errUsage)
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "s", "0 s"},
		{0.0123, "s", "12.3 ms"},
		{90, "s", "90 s"},
		{600, "s", "10 min"},
		{1536, "bytes", "1.5 KiB"},
		{3 << 30, "bytes", "3 GiB"},
		{1234, "eps", "1.23 k/s"},
		{1234567, "short", "1.23 M"},
		{0.25, "short", "0.25"},
	} {
		assert.Equal(t, c.want, format(c.value, c.unit))
	}
}
